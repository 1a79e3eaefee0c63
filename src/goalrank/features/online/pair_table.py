"""Counts of pairs of a user and an item: sorted arrays, and a few newer pairs beside them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["PairTable"]

Longs = NDArray[np.int64]
_NEW = 1 << 16  # newer pairs that may wait to be merged, at least
_SHARE = 16  # or one for so many merged ones


class PairTable:
    """Rows per user and item, 12 bytes each."""

    def __init__(self) -> None:
        self._keys: Longs = np.zeros(0, np.int64)
        self._counts: NDArray[np.int32] = np.zeros(0, np.int32)
        self._new_keys: Longs = np.zeros(0, np.int64)
        self._new_counts: NDArray[np.int32] = np.zeros(0, np.int32)

    def __len__(self) -> int:
        return len(self._keys) + len(self._new_keys)

    @property
    def bytes(self) -> int:
        """Memory of the arrays."""
        arrays = (self._keys, self._counts, self._new_keys, self._new_counts)
        return sum(array.nbytes for array in arrays)

    def add(self, user: NDArray[np.integer], item: NDArray[np.integer]) -> None:
        """Count pairs [n], which may come several times."""
        keys, found_counts = np.unique(_key(user, item), return_counts=True)
        counts: NDArray[np.int32] = found_counts.astype(np.int32)
        for known, totals in ((self._keys, self._counts), (self._new_keys, self._new_counts)):
            at, found = _find(known, keys)
            totals[at[found]] += counts[found]
            keys, counts = keys[~found], counts[~found]
        self._new_keys, self._new_counts = _merged(self._new_keys, self._new_counts, keys, counts)
        if len(self._new_keys) > max(_NEW, len(self._keys) // _SHARE):
            at = np.searchsorted(self._keys, self._new_keys)
            # One after the other, so that only one is there twice.
            self._keys = np.insert(self._keys, at, self._new_keys)
            self._counts = np.insert(self._counts, at, self._new_counts)
            self._new_keys, self._new_counts = self._new_keys[:0], self._new_counts[:0]

    def count(self, user: NDArray[np.integer], item: NDArray[np.integer]) -> Longs:
        """Counts of pairs, 0 where a code is -1.

        Args:
            user: codes.
            item: codes, of a shape that fits.
        """
        keys = np.where((user >= 0) & (item >= 0), _key(user, item), -1)
        out = np.zeros(keys.shape, np.int64)
        for known, totals in ((self._keys, self._counts), (self._new_keys, self._new_counts)):
            at, found = _find(known, keys)
            out[found] += totals[at[found]]
        return out

    def remove(self, user: int) -> None:
        """Forget a user's pairs."""
        keys, counts = self.arrays()
        kept = keys >> 32 != user
        self.restore(keys[kept], counts[kept])

    def arrays(self) -> tuple[Longs, NDArray[np.int32]]:
        """All keys (user · 2^32 + item), ascending, and their counts."""
        return _merged(self._keys, self._counts, self._new_keys, self._new_counts)

    def restore(self, keys: Longs, counts: NDArray[np.int32]) -> None:
        """Take over what `arrays` gave."""
        self._keys, self._counts = keys, counts
        self._new_keys, self._new_counts = keys[:0], counts[:0]


def _key(user: NDArray[np.integer], item: NDArray[np.integer]) -> Longs:
    key: Longs = (user.astype(np.int64) << 32) + item
    return key


def _find(known: Longs, keys: Longs) -> tuple[Longs, NDArray[np.bool_]]:
    """Where keys stand among known ones, and which do."""
    at = np.searchsorted(known, keys)
    if not len(known):
        return at, np.zeros(keys.shape, bool)
    at = np.minimum(at, len(known) - 1)
    return at, known[at] == keys


def _merged(
    keys: Longs, counts: NDArray[np.int32], more: Longs, more_counts: NDArray[np.int32]
) -> tuple[Longs, NDArray[np.int32]]:
    """Two sorted tables without a common key as one."""
    at = np.searchsorted(keys, more)
    return np.insert(keys, at, more), np.insert(counts, at, more_counts)
