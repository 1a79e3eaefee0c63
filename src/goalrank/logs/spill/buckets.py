"""Rows in buckets on disk: the first half of a sort of more rows than memory holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.spill.folder import Spill

__all__ = ["Buckets", "Records", "chunk_ranges"]

Records = NDArray[Any]
"""Rows with named columns: a structured array."""


def chunk_ranges(total: int, chunk: int) -> Iterator[slice]:
    """Consecutive slices of at most `chunk` of `total` rows."""
    for start in range(0, total, chunk):
        yield slice(start, min(start + chunk, total))


class Buckets:
    """Rows that are dealt to buckets, in each of which they keep their order.

    Args:
        spill: where the files lie.
        name: first part of their names.
        count: number of buckets.
    """

    def __init__(self, spill: Spill, name: str, count: int) -> None:
        self._paths = [spill.folder / f"{name}-{number:05d}" for number in range(count)]
        self._spill = spill
        self._dtype: np.dtype[Any] | None = None

    def add(self, rows: Records, bucket: NDArray[np.integer[Any]]) -> None:
        """Append rows, each to its bucket.

        Args:
            rows: [n]; all calls give one type.
            bucket: [n] numbers from 0.
        """
        self._dtype = rows.dtype
        if len(self._paths) == 1:
            self._append(self._paths[0], rows)
            return
        order = np.argsort(bucket, kind="stable")
        ends = np.cumsum(np.bincount(bucket, minlength=len(self._paths)))
        ordered = rows[order]
        for path, start, end in zip(self._paths, np.append(0, ends[:-1]), ends):
            if end > start:
                self._append(path, ordered[start:end])

    def __iter__(self) -> Iterator[Records]:
        """The rows of each bucket in turn; its file is removed."""
        for path in self._paths:
            if path.exists() and self._dtype is not None:
                rows = np.fromfile(path, self._dtype)
                path.unlink()
                yield rows

    @staticmethod
    def _append(path: Path, rows: Records) -> None:
        with path.open("ab") as file:
            rows.tofile(file)
