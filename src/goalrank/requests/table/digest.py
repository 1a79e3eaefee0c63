"""`table_digest`: a hash of everything that a table of requests holds."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from goalrank.requests.table.requests import Requests


def table_digest(requests: Requests) -> str:
    """SHA-256 of all values of a table and its side tables, as 64 hexadecimal digits.

    It depends on the values, their order and the names of the columns; not on the files, chunks or
    versions of libraries that hold them.

    Args:
        requests: the table.
    """
    digest = hashlib.sha256()
    for name in ("frame", "items", "users"):
        frame = getattr(requests, name)
        columns = [] if frame is None else sorted(frame.columns)
        digest.update(f"{name}:{columns}".encode())
        for column in columns:
            _feed(digest, frame[column].rechunk().to_arrow())
    return digest.hexdigest()


def _feed(digest: Any, array: Any) -> None:
    """Add an Arrow array: its length, which values are null, and the values."""
    digest.update(f"{len(array)}|{array.null_count}".encode())
    if array.null_count:
        digest.update(_bytes(pc.is_null(array)))
    kind = array.type
    if pa.types.is_dictionary(kind):
        _feed(digest, array.cast(kind.value_type))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        digest.update(_bytes(pc.fill_null(pc.list_value_length(array), 0).cast(pa.int64())))
        _feed(digest, array.flatten())
    elif pa.types.is_fixed_size_list(kind):
        _feed(digest, array.flatten())
    elif pa.types.is_struct(kind):
        for i, field in enumerate(kind):
            digest.update(field.name.encode())
            _feed(digest, array.field(i))
    elif not pa.types.is_null(kind):
        _feed_values(digest, array)


def _feed_values(digest: Any, array: Any) -> None:
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        text = pc.fill_null(array.cast(pa.large_string()), "")
        digest.update(_bytes(pc.binary_length(text)))
        start, stop = (text.buffers()[1], text.buffers()[2])
        ends = np.frombuffer(start, np.int64)[text.offset : text.offset + len(text) + 1]
        digest.update(memoryview(stop or b"")[ends[0] : ends[-1]] if len(ends) else b"")
        return
    if pa.types.is_temporal(kind):
        array = array.cast(pa.int64())
    digest.update(_bytes(pc.fill_null(array, pa.scalar(0).cast(array.type))))


def _bytes(array: Any) -> bytes:
    values = array.to_numpy(zero_copy_only=False)
    return f"{values.dtype.str}".encode() + np.ascontiguousarray(values).tobytes()
