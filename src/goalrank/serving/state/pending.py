"""Rows that have come and are not in the past yet."""

from __future__ import annotations

import numpy as np

from goalrank.serving.state.rows import Records

__all__ = ["PendingRows"]


class PendingRows:
    """Rows of the present and the future, until the clock passes them.

    Args:
        empty: no rows, of the right type.
    """

    def __init__(self, empty: Records) -> None:
        self._rows = empty
        self._more: list[Records] = []

    def __len__(self) -> int:
        return len(self._rows) + sum(len(part) for part in self._more)

    @property
    def bytes(self) -> int:
        """Memory of the rows. It changes nothing, so that a thread without the lock may ask."""
        return self._rows.nbytes + sum(part.nbytes for part in self._more)

    @property
    def rows(self) -> Records:
        """All of them by time; those of one time in the order in which they came."""
        if self._more:
            rows = np.concatenate([self._rows, *self._more])
            self._rows = rows[np.argsort(rows["time"], kind="stable")]
            self._more = []
        return self._rows

    def add(self, rows: Records) -> None:
        """Take in rows, in any order."""
        if len(rows):
            self._more.append(rows)

    def take_before(self, moment: int) -> Records:
        """Take out the rows strictly before a moment, by time.

        Args:
            moment: microseconds.
        """
        if not len(self):
            return self._rows
        rows = self.rows
        end = int(np.searchsorted(rows["time"], moment))
        # A copy where few are left: a part of an array keeps the memory of the whole.
        whole = rows if rows.base is None else rows.base
        few = 2 * (len(rows) - end) <= len(whole)
        self._rows = rows[end:].copy() if few else rows[end:]
        return rows[:end]
