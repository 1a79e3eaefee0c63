"""The latest rows of each of many users, in one set of arrays.

A user's rows stand in a block, oldest first. A block that is full moves to the end of the arrays,
with room for more; what it leaves behind is taken back when a third of the arrays is unused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.features.past import LatestRows

__all__ = ["RowPool"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

_BLOCK = 4  # rows of the smallest block
_LEAST = 1024  # rows below which unused room does not matter


class RowPool:
    """Rows of users, each with an item, a time and values; the latest are kept.

    A user's rows are ordered by time, then by a key that comes with each, then as they came.

    Args:
        columns: number of values per row.
        most: rows that are kept per user, at least 1.

    Attributes:
        item: [R] codes.
        time: [R] microseconds.
        tie: [R] keys.
        values: [columns, R].
        start: [U] first row of each user.
        size: [U] rows of each user.
    """

    def __init__(self, columns: int, most: int) -> None:
        self.most = most
        # There is always a row to look at, also for users without any.
        self.item: Ints = np.zeros(1, np.int32)
        self.time: Longs = np.zeros(1, np.int64)
        self.tie: NDArray[np.uint64] = np.zeros(1, np.uint64)
        self.values: Floats = np.zeros((columns, 1), np.float32)
        self.start: Longs = np.zeros(0, np.int64)
        self.size: Longs = np.zeros(0, np.int64)
        self._stop: Longs = np.zeros(0, np.int64)  # where the block ends
        self._used = 0  # rows of the arrays that are in blocks, or were

    @property
    def rows(self) -> int:
        """Rows that are kept."""
        return int(self.size.sum())

    @property
    def bytes(self) -> int:
        """Memory of the arrays."""
        arrays = (self.item, self.time, self.tie, self.values, self.start, self.size, self._stop)
        return sum(array.nbytes for array in arrays)

    def grow(self, users: int) -> None:
        """Make room for more users.

        Args:
            users: number of users from now on.
        """
        more = users - len(self.start)
        if more > 0:
            more = max(more, len(self.start) // 4)
            for name in ("start", "size", "_stop"):
                setattr(self, name, np.pad(getattr(self, name), (0, more)))

    def add(
        self,
        user: NDArray[np.integer],
        item: NDArray[np.integer],
        time: Longs,
        tie: NDArray[np.uint64],
        values: Sequence[NDArray[np.floating]],
    ) -> None:
        """Add rows in any order.

        Args:
            user: [n] codes.
            item: [n] codes.
            time: [n] microseconds.
            tie: [n] keys by which rows of one time are ordered.
            values: an array [n] per column.
        """
        order = np.argsort(user, kind="stable")
        user, item, time = user[order], item[order], time[order]
        new = np.append(np.ones(min(len(user), 1), bool), user[1:] != user[:-1])
        first = np.flatnonzero(new)
        touched, more = user[first], np.diff(np.append(first, len(user)))
        self.grow(int(touched.max(initial=-1)) + 1)
        self._make_room(touched, more)
        end = self.start[touched] + self.size[touched]
        row = np.repeat(end - first, more) + np.arange(len(user))
        self.item[row], self.time[row], self.tie[row] = item, time, tie[order]
        for column, one in zip(self.values, values, strict=True):
            column[row] = one[order]
        self.size[touched] += more
        self._put_in_order(user, row)
        over = np.maximum(self.size[touched] - self.most, 0)
        self.start[touched] += over
        self.size[touched] -= over

    def _make_room(self, user: NDArray[np.integer], more: Longs) -> None:
        """Let each user's block have room for more rows."""
        need = self.size[user] + more
        full = self.start[user] + need > self._stop[user]
        user, need = user[full], need[full]
        if not len(user):
            return
        room = np.maximum(-(-need * 5 // (4 * _BLOCK)) * _BLOCK, _BLOCK)
        total = int(room.sum())
        if self._used + total > len(self.item):
            self._enlarge(total)
        begin = self._used + np.cumsum(room) - room
        self._copy(self.start[user], begin, self.size[user])
        self.start[user], self._stop[user] = begin, begin + room
        self._used += total

    def _copy(self, source: Longs, target: Longs, sizes: Longs) -> None:
        old, new = (np.repeat(first, sizes) + _within(sizes) for first in (source, target))
        for array in self._arrays:
            array[..., new] = array[..., old]

    @property
    def _arrays(self) -> tuple[NDArray[Any], ...]:
        return self.item, self.time, self.tie, self.values

    def _take(self, arrays: Sequence[NDArray[Any]]) -> None:
        self.item, self.time, self.tie, self.values = arrays

    def _enlarge(self, more: int) -> None:
        """Make the arrays larger, without what is unused where that is much."""
        blocks = int((self._stop - self.start).sum())
        if self._used > _LEAST and blocks * 3 < self._used * 2:
            self._compact()
        needed = self._used + more
        missing = max(needed + needed // 4, _LEAST) - len(self.item)
        if needed > len(self.item):
            self._take([_longer(array, missing) for array in self._arrays])

    def _compact(self) -> None:
        """Write the blocks one after another."""
        room = self._stop - self.start
        begin = np.cumsum(room) - room
        total = int(room.sum())
        rows = self.rows_of(np.arange(len(self.start)))
        moved = np.repeat(begin, self.size) + _within(self.size)
        fresh = [_longer(array[..., :0], max(total, 1)) for array in self._arrays]
        for new, old in zip(fresh, self._arrays):
            new[..., moved] = old[..., rows]
        self._take(fresh)
        self.start, self._stop, self._used = begin, begin + room, total

    def rows_of(self, user: NDArray[np.integer]) -> Longs:
        """All rows of some users, user by user, oldest first.

        Args:
            user: [n] codes.
        """
        sizes = self.size[user]
        rows: Longs = np.repeat(self.start[user], sizes) + _within(sizes)
        return rows

    def _put_in_order(self, user: NDArray[np.integer], row: Longs) -> None:
        """Order the users' rows where a new row is not later than the one before it."""
        before = row > self.start[user]
        late = np.zeros(len(row), bool)
        late[before] = self.time[row[before]] <= self.time[row[before] - 1]
        users = np.unique(user[late])
        if not len(users):
            return
        rows = self.rows_of(users)
        owner = np.repeat(users, self.size[users])
        order = rows[np.lexsort([self.tie[rows], self.time[rows], owner])]
        for array in self._arrays:
            array[..., rows] = array[..., order]

    def bounds(self, user: NDArray[np.integer]) -> tuple[Longs, Longs]:
        """Where the rows of users begin and end: [B] each; nobody's for unknown users.

        Args:
            user: [B] codes, -1 for unknown ones.
        """
        known = (user >= 0) & (user < len(self.start))
        if not known.any():
            none = np.zeros(len(user), np.int64)
            return none, none
        safe = np.where(known, user, 0)
        start = self.start[safe]
        return start, start + np.where(known, self.size[safe], 0)

    def latest(self, user: NDArray[np.integer], rows: int) -> LatestRows:
        """The latest rows of users, latest first: [B, rows].

        Args:
            user: [B] codes; -1 has none.
            rows: how many at most, no more than are kept.
        """
        start, end = self.bounds(user)
        age = np.arange(rows)
        real = age < (end - start)[:, None]
        row = np.where(real, end[:, None] - 1 - age, 0)
        return LatestRows(
            real, self.item[row], self.time[row], tuple(column[row] for column in self.values)
        )

    def remove(self, user: int) -> None:
        """Forget a user's rows.

        Args:
            user: code.
        """
        for array in self._arrays:
            array[..., self.start[user] : self._stop[user]] = 0
        self.size[user] = 0

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that is kept, without unused room: rows user by user, and their number per user."""
        rows = self.rows_of(np.arange(len(self.start)))
        names = ("item", "time", "tie", "values")
        kept = {name: array[..., rows] for name, array in zip(names, self._arrays)}
        return {**kept, "size": self.size}

    def restore(self, kept: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `arrays` gave."""
        names = ("item", "time", "tie", "values")
        self._take([_longer(kept[name], 1) for name in names])
        self.size = kept["size"].copy()
        self._stop = np.cumsum(self.size)
        self.start = self._stop - self.size
        self._used = len(self.item) - 1


def _longer(array: NDArray[Any], more: int) -> NDArray[Any]:
    return np.concatenate([array, np.zeros((*array.shape[:-1], more), array.dtype)], axis=-1)


def _within(sizes: Longs) -> Longs:
    """0, 1, … within each of several runs, one after another."""
    return np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
