"""Ids to rows: known ids get their own row, unknown ids share hashed buckets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import DataError

IntArray = NDArray[np.int64]
# Plain forms are for a server's few ids: polars shares its work out to threads, and where those
# are busy a request would wait for them.
Ids = pl.Series | IntArray | list[str]


def mix64(values: NDArray[Any]) -> NDArray[np.uint64]:
    """SplitMix64 finaliser: a stable, well-mixed 64-bit hash of integers.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    with np.errstate(over="ignore"):
        z = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def stable_hash(ids: Ids) -> NDArray[np.uint64]:
    """64-bit hash of ids that is the same on every machine, process and version.

    Integers and the strings that spell them hash differently: ids are typed.
    """
    if isinstance(ids, list):
        return _hash_strings(ids)
    if isinstance(ids, np.ndarray):
        return mix64(ids)
    if ids.dtype == pl.String:
        return _hash_strings(ids.fill_null(""))
    return mix64(ids.fill_null(0).to_numpy())


def _hash_strings(values: Iterable[str]) -> NDArray[np.uint64]:
    digests = (hashlib.blake2b(value.encode(), digest_size=8).digest() for value in values)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def as_series(ids: Ids) -> pl.Series:
    """Ids in polars' form."""
    return ids if isinstance(ids, pl.Series) else pl.Series("id", ids)


def listed(ids: Ids) -> list[Any]:
    """Ids as Python's numbers or strings."""
    if isinstance(ids, list):
        return ids
    found: list[Any] = ids.to_list() if isinstance(ids, pl.Series) else ids.tolist()
    return found


class Vocabulary:
    """A fixed set of known ids and a number of buckets for the rest.

    Row 0 is padding, rows 1…size are known ids in sorted order, rows size+1…size+buckets are
    shared by unknown ids through a stable hash.

    Args:
        ids: distinct known ids, string or integer.
        buckets: number of rows for unknown ids, at least 1.
    """

    def __init__(self, ids: pl.Series, buckets: int = 64) -> None:
        if ids.dtype != pl.String:
            ids = ids.cast(pl.Int64)
        self.ids = ids.drop_nulls().unique().sort().alias("id")
        self.buckets = buckets
        self._sorted = None if self.ids.dtype == pl.String else self.ids.to_numpy()
        self._lookup: dict[str, int] | None = None

    @property
    def size(self) -> int:
        """Number of known ids."""
        return len(self.ids)

    @property
    def rows_total(self) -> int:
        """Padding, known ids and buckets together."""
        return 1 + self.size + self.buckets

    def bucket(self, ids: pl.Series) -> IntArray:
        """Rows [n] of the hashed buckets of ids, whether known or not."""
        hashed = stable_hash(self._typed(ids)) % np.uint64(self.buckets)
        return (hashed + np.uint64(self.size + 1)).astype(np.int64)

    def rows(self, ids: Ids) -> IntArray:
        """Rows [n] of ids; null ids get row 0.

        Raises:
            DataError: ids of another type than the vocabulary's.
        """
        if not isinstance(ids, pl.Series):
            return self._plain_rows(ids)
        ids = self._typed(ids)
        rows = self._known(ids)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            rows[unknown] = self.bucket(ids.gather(unknown))
        if ids.null_count():
            rows[ids.is_null().to_numpy()] = 0
        return rows

    def _plain_rows(self, ids: IntArray | list[str]) -> IntArray:
        rows = self._plain_known(ids)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            few = ids[unknown] if isinstance(ids, np.ndarray) else [ids[i] for i in unknown]
            hashed = stable_hash(few) % np.uint64(self.buckets)
            rows[unknown] = (hashed + np.uint64(self.size + 1)).astype(np.int64)
        return rows

    def contains(self, ids: Ids) -> NDArray[np.bool_]:
        """Whether each id [n] is known."""
        if not isinstance(ids, pl.Series):
            return self._plain_known(ids) > 0
        out: NDArray[np.bool_] = (self._known(self._typed(ids)) > 0) & ids.is_not_null().to_numpy()
        return out

    def _typed(self, ids: pl.Series) -> pl.Series:
        if ids.dtype == pl.Null:
            return ids.cast(self.ids.dtype)
        if (ids.dtype == pl.String) != (self.ids.dtype == pl.String):
            raise DataError(
                f"ids are {ids.dtype}, but this model knows ids of type {self.ids.dtype}: "
                f"a string '7' and a number 7 are different ids; remedy: cast the id column "
                f"to {self.ids.dtype}"
            )
        return ids if ids.dtype == pl.String else ids.cast(pl.Int64)

    def _plain_known(self, ids: IntArray | list[str]) -> IntArray:
        if self.size == 0 or len(ids) == 0:
            return np.full(len(ids), -1, dtype=np.int64)
        if isinstance(ids, list) != (self._sorted is None):
            raise DataError(
                f"ids are {type(ids[0]).__name__}, but this model knows ids of type "
                f"{self.ids.dtype}: a string '7' and a number 7 are different ids; remedy: send "
                f"ids of that type"
            )
        if isinstance(ids, list):
            return self._look_up(ids)
        known = cast(IntArray, self._sorted)  # ids are numbers
        at = np.minimum(np.searchsorted(known, ids), self.size - 1)
        return np.where(known[at] == ids, at + 1, -1).astype(np.int64)

    def _look_up(self, ids: list[str]) -> IntArray:
        if self._lookup is None:
            self._lookup = {value: row for row, value in enumerate(self.ids.to_list(), start=1)}
        lookup = self._lookup
        return np.fromiter((lookup.get(v, -1) for v in ids), np.int64, len(ids))

    def _known(self, ids: pl.Series) -> IntArray:
        if self.size == 0:
            return np.full(len(ids), -1, dtype=np.int64)
        if self._sorted is not None:
            return self._plain_known(ids.fill_null(0).to_numpy())
        if len(ids) > 4096:  # a join pays only for many ids
            known = pl.DataFrame({"id": self.ids, "row": np.arange(1, self.size + 1)})
            joined = (
                ids.alias("id").to_frame().join(known, on="id", how="left", maintain_order="left")
            )
            return joined["row"].fill_null(-1).to_numpy().astype(np.int64)
        return self._look_up(ids.to_list())
