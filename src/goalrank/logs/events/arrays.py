"""A log as flat arrays: codes of ids, and rows sorted by user and time.

Codes follow the first appearance in time, so that a later row never changes an earlier code. The
result of an earlier request therefore cannot depend on later rows, not even through ties.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.requests import mix64

__all__ = [
    "Codes",
    "Events",
    "Ints",
    "Longs",
    "distinct",
    "ragged_ranges",
    "stable_hashes",
]

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Floats = NDArray[np.float32]


def distinct(values: NDArray[np.int64]) -> Longs:
    """Distinct values, sorted. Sorting is about a hundred times as fast as `np.unique` here.

    Args:
        values: any shape.
    """
    ordered = np.sort(values, axis=None)
    out: Longs = ordered[
        np.append(np.ones(min(len(ordered), 1), bool), ordered[1:] != ordered[:-1])
    ]
    return out


def ragged_ranges(starts: Longs, lengths: Longs) -> Longs:
    """Concatenate ``range(start, start + length)`` without a loop.

    Args:
        starts: [Q].
        lengths: [Q], at least 0.
    """
    total = int(lengths.sum())
    offsets = np.cumsum(lengths) - lengths
    out: Longs = np.arange(total, dtype=np.int64) + np.repeat(starts - offsets, lengths)
    return out


def stable_hashes(ids: pl.Series) -> NDArray[np.uint64]:
    """64 bits per id, a function of the id alone, the same on every machine and version."""
    if ids.dtype != pl.String:
        return mix64(ids.to_numpy().astype(np.int64).view(np.uint64))
    names = ids.unique()
    words = [zlib.crc32(t.encode()) << 32 | zlib.adler32(t.encode()) for t in names]
    table = pl.DataFrame({"id": names, "hash": pl.Series(words, dtype=pl.UInt64)})
    found = pl.DataFrame({"id": ids}).join(table, on="id", how="left", maintain_order="left")
    return mix64(found["hash"].to_numpy())


@dataclass(frozen=True)
class Codes:
    """Ids and their codes 0, 1, 2, ... in order of first appearance in time.

    Attributes:
        ids: ids; the code of an id is its row.
        hashes: uint64 per code, a function of the id alone (for shuffles).
        first_time: microseconds of the first appearance per code; ascending.
    """

    ids: pl.Series
    hashes: NDArray[np.uint64]
    first_time: Longs

    def __len__(self) -> int:
        return len(self.ids)

    def encode(self, ids: pl.Series) -> Ints:
        """Codes of ids; -1 for unknown ones.

        Args:
            ids: ids of the same type.
        """
        table = pl.DataFrame({"id": self.ids}).with_row_index("code")
        found = pl.DataFrame({"id": ids}).join(table, on="id", how="left", maintain_order="left")
        codes: Ints = found["code"].cast(pl.Int32).fill_null(-1).to_numpy()
        return codes

    def known_before(self, time: int) -> int:
        """Number of codes that first appeared strictly before a time.

        Args:
            time: microseconds.
        """
        return int(np.searchsorted(self.first_time, time, side="left"))


@dataclass(frozen=True)
class Events:
    """Rows sorted by user code, time and original order; the arrays may be mapped from files.

    Attributes:
        user, item: [E] codes.
        time: [E] microseconds.
        values: column name → [E] float32.
        user_start: [U + 1] rows of user u are ``user_start[u]:user_start[u + 1]``.
        request: [E] request numbers of the log; None if it has none.
        carried: E rows of columns that go to the requests table; None where there are none.
    """

    user: Ints
    item: Ints
    time: Longs
    values: dict[str, Floats]
    user_start: Longs
    request: Longs | None = None
    carried: pl.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.user)

    @property
    def shown(self) -> NDArray[np.bool_]:
        """[E] whether a row was shown; all are where the log does not say."""
        if self.carried is None or "shown" not in self.carried.columns:
            return np.ones(len(self), dtype=bool)
        return self.carried["shown"].to_numpy()

    def shown_at(self, rows: Longs) -> NDArray[np.bool_]:
        """Whether each of some rows was shown."""
        if self.carried is None or "shown" not in self.carried.columns:
            return np.ones(len(rows), dtype=bool)
        return self.carried["shown"].gather(rows).to_numpy()

    def only(self, keep: NDArray[np.bool_]) -> Events:
        """The rows where `keep` [E] is true, without what is carried."""
        return Events(
            user=self.user[keep],
            item=self.item[keep],
            time=self.time[keep],
            values={name: values[keep] for name, values in self.values.items()},
            user_start=row_starts(self.user[keep], len(self.user_start) - 1),
            request=None if self.request is None else self.request[keep],
        )

    def rows_before(self, user: NDArray[np.integer[Any]], time: Longs) -> Longs:
        """First row per query that is of its user and not strictly before its time.

        A binary search of all queries at once within their users' rows.

        Args:
            user: [Q] codes.
            time: [Q] microseconds.

        Returns:
            [Q] rows.
        """
        low: Longs = self.user_start[user]
        high: Longs = self.user_start[user + 1]
        longest = int((high - low).max(initial=0))
        for _ in range(longest.bit_length()):
            middle = (low + high) >> 1
            before = low < high
            before[before] = self.time[middle[before]] < time[before]
            high = np.where(before | (low >= high), high, middle)
            low = np.where(before, middle + 1, low)
        return low


def row_starts(user: Ints, users: int) -> Longs:
    """First row of each user and the end of the last: [U + 1].

    Args:
        user: [E] codes, ascending.
        users: U.
    """
    counts = np.bincount(user, minlength=users)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
