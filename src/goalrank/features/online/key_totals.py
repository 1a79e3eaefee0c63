"""Counts, sums and times per key, in arrays that grow with the keys."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from goalrank.features.fixed_point import ONE, fixed_point
from goalrank.features.past import EarlierRows

__all__ = ["KeyTotals"]

Longs = NDArray[np.int64]
_NEVER = np.iinfo(np.int64).max


class KeyTotals:
    """What is known of all rows of each key.

    Args:
        columns: number of values that are added up.

    Attributes:
        count: [K] rows.
        sums: [columns, K] in fixed point.
        first, last: [K] microseconds of the first and the latest row.
    """

    def __init__(self, columns: int) -> None:
        self.count: Longs = np.zeros(0, np.int64)
        self.sums: Longs = np.zeros((columns, 0), np.int64)
        self.first: Longs = np.zeros(0, np.int64)
        self.last: Longs = np.zeros(0, np.int64)

    @property
    def bytes(self) -> int:
        """Memory of the arrays."""
        return sum(array.nbytes for array in (self.count, self.sums, self.first, self.last))

    def grow(self, keys: int) -> None:
        """Make room for more keys.

        Args:
            keys: number of keys from now on.
        """
        more = keys - len(self.count)
        if more > 0:
            more = max(more, len(self.count) // 4)
            self.count = np.pad(self.count, (0, more))
            self.sums = np.pad(self.sums, ((0, 0), (0, more)))
            self.first = np.pad(self.first, (0, more), constant_values=_NEVER)
            self.last = np.pad(self.last, (0, more), constant_values=-_NEVER)

    def add(
        self, key: NDArray[np.integer], time: Longs, values: Sequence[NDArray[np.floating]]
    ) -> None:
        """Add rows in any order.

        Args:
            key: [n].
            time: [n] microseconds.
            values: an array [n] per column.
        """
        self.grow(int(key.max(initial=-1)) + 1)
        np.add.at(self.count, key, 1)
        for column, one in zip(self.sums, values, strict=True):
            np.add.at(column, key, fixed_point(one))
        np.minimum.at(self.first, key, time)
        np.maximum.at(self.last, key, time)

    def of(self, key: NDArray[np.integer]) -> EarlierRows:
        """Statistics of keys, in their shape.

        Args:
            key: -1, and keys never seen, have no rows.
        """
        known = (key >= 0) & (key < len(self.count))
        safe = np.where(known, key, 0)
        if not len(self.count):
            none = np.zeros(key.shape, np.int64)
            return EarlierRows(none, tuple(none / ONE for _ in self.sums), none, none)
        count = np.where(known, self.count[safe], 0)
        some = count > 0
        return EarlierRows(
            count,
            tuple(np.where(known, column[safe], 0) / ONE for column in self.sums),
            np.where(some, self.first[safe], 0),
            np.where(some, self.last[safe], 0),
        )

    def remove(self, key: int) -> None:
        """Forget a key."""
        self.count[key], self.sums[:, key] = 0, 0
        self.first[key], self.last[key] = _NEVER, -_NEVER
