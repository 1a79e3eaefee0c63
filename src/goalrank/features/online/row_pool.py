"""The latest rows of each of many users, kept once for all who ask for some of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from goalrank.features.online.blocks import Blocks

__all__ = ["DroppedRows", "RowPool", "Ties"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Marks = NDArray[np.uint8]

Ties: TypeAlias = Callable[[NDArray[np.integer], Ints, Marks], NDArray[np.uint64]]
"""Keys by which a user's rows of one time are ordered: user, item and marks [n] → [n]."""

_FIELDS = ("item", "time", "marks")


@dataclass(frozen=True)
class DroppedRows:
    """Rows that are kept no longer, in no order.

    Attributes:
        user: [n] codes.
        item: [n] codes.
        marks: [n].
    """

    user: NDArray[np.integer]
    item: Ints
    marks: Marks


class RowPool:
    """Rows of users, each with an item, a time, marks and values; the latest of each mark are kept.

    A user's rows are ordered by time, then by a key of user and item, then as they came. A row is
    kept as long as it is among the latest of one of its marks; what is beyond that goes when its
    room is needed, so that up to a third more may be there.

    Args:
        columns: number of values per row.
        most: mark (a bit) → rows with it that are kept per user. Other marks keep no row.
        ties: keys of rows of one time; they are asked for where rows of one time meet.
    """

    def __init__(self, columns: int, most: Mapping[int, int], ties: Ties) -> None:
        self._most = {mark: count for mark, count in most.items() if count}
        self._ties = ties
        self._any = np.uint8(sum(self._most))
        self._names = (*_FIELDS, *(f"value {n}" for n in range(columns)))
        types = (np.int32, np.int64, np.uint8, *[np.float32] * columns)
        self._blocks = Blocks(types)
        self._usual = self._blocks.room_for(max(self._most.values(), default=0))

    @property
    def item(self) -> Ints:
        """[R] codes."""
        return self._blocks.arrays[0]

    @property
    def time(self) -> Longs:
        """[R] microseconds."""
        return self._blocks.arrays[1]

    @property
    def marks(self) -> Marks:
        """[R] bits."""
        return self._blocks.arrays[2]

    @property
    def values(self) -> list[Floats]:
        """An array [R] per column."""
        return self._blocks.arrays[3:]

    @property
    def size(self) -> Ints:
        """[U] rows of each user."""
        return self._blocks.size

    @property
    def rows(self) -> int:
        """Rows that are kept."""
        return self._blocks.rows

    @property
    def bytes(self) -> int:
        """Memory of the arrays."""
        return self._blocks.bytes

    def add(
        self,
        user: NDArray[np.integer],
        item: NDArray[np.integer],
        time: Longs,
        marks: Marks,
        values: Sequence[NDArray[np.floating]],
    ) -> DroppedRows:
        """Add rows in any order.

        Args:
            user: [n] codes.
            item: [n] codes.
            time: [n] microseconds.
            marks: [n] bits.
            values: an array [n] per column.

        Returns:
            Rows that were kept before, or are new, and are kept no longer; those without a mark that
            keeps them are not among them.
        """
        wanted = np.flatnonzero(marks & self._any)
        order = wanted[np.argsort(user[wanted], kind="stable")]
        owner = user[order]
        new = np.append(np.ones(min(len(owner), 1), bool), owner[1:] != owner[:-1])
        first = np.flatnonzero(new)
        touched, more = owner[first], np.diff(np.append(first, len(owner)))
        self._blocks.grow(int(touched.max(initial=-1)) + 1)
        columns = (item, time, marks, *values)
        dropped: list[DroppedRows] = []
        for piece in self._blocks.pieces(self._blocks.size[touched] + more):
            begin = first[piece.start]
            part = order[begin : begin + int(more[piece].sum())]
            dropped += self._add(touched[piece], more[piece], [each[part] for each in columns])
        return _joined(dropped)

    def _add(
        self, touched: NDArray[np.integer], more: Longs, columns: Sequence[NDArray[Any]]
    ) -> list[DroppedRows]:
        """Add rows user by user; see `add`."""
        blocks = self._blocks
        dropped: list[DroppedRows] = []
        full = blocks.full(touched, more)
        if full.any():
            dropped += self._make_room(touched[full], more[full])
        row = blocks.append(touched, more)
        for at, column in enumerate(
            columns
        ):  # by place: an array that has a name is copied to grow
            blocks.arrays[at][row] = column
        self._put_in_order(np.repeat(touched, more), row)
        # More at once than the new block would have been made for.
        many = touched[full & (blocks.size[touched] > self._usual)]
        if len(many):
            dropped += self._make_room(many, np.zeros(len(many), np.int64))
        return dropped

    def _make_room(self, user: NDArray[np.integer], more: Longs) -> list[DroppedRows]:
        """Let each user's block have room for more rows, without those that are to be dropped."""
        rows, sizes = self._blocks.rows_of(user), self._blocks.size[user].astype(np.int64)
        if int(sizes.max()) <= min(self._most.values()):
            self._blocks.settle(user, rows, sizes, sizes + more)
            return []
        kept = self._is_kept(rows, sizes)
        owner = np.repeat(np.arange(len(user)), sizes)
        gone = rows[~kept]
        dropped = DroppedRows(user[owner[~kept]], self.item[gone], self.marks[gone])
        sizes = np.bincount(owner[kept], minlength=len(user))
        self._blocks.settle(user, rows[kept], sizes, sizes + more)
        return [dropped]

    def _is_kept(self, rows: Longs, sizes: Longs) -> NDArray[np.bool_]:
        """Whether rows are among the latest of one of their marks.

        Args:
            rows: all of some users, user by user.
            sizes: how many each user has.
        """
        kept, marks, last = np.zeros(len(rows), bool), self.marks[rows], np.cumsum(sizes) - 1
        for mark, most in self._most.items():
            marked = marks & mark > 0
            number = np.cumsum(marked)
            kept |= marked & (np.repeat(number[last], sizes) - number < most)
        return kept

    def _put_in_order(self, user: NDArray[np.integer], row: Longs) -> None:
        """Order the users' rows where a new row is not later than the one before it."""
        blocks = self._blocks
        before = row > blocks.start[user]
        late = np.zeros(len(row), bool)
        late[before] = self.time[row[before]] <= self.time[row[before] - 1]
        users = np.unique(user[late])
        if not len(users):
            return
        rows = blocks.rows_of(users)
        owner = np.repeat(users, blocks.size[users])
        ties = self._ties(owner, self.item[rows], self.marks[rows])
        order = rows[np.lexsort([ties, self.time[rows], owner])]
        for array in blocks.arrays:
            array[rows] = array[order]

    def latest(
        self, user: NDArray[np.integer], rows: int, mark: int
    ) -> tuple[NDArray[np.bool_], Longs]:
        """The latest rows of users with a mark, latest first.

        Args:
            user: [B] codes; -1 has none.
            rows: how many at most, no more than are kept.
            mark: a bit.

        Returns:
            Whether there is such a row: [B, rows]; and which it is: [B, rows], 0 where none is.
        """
        real, row = self._newest(user, rows)
        if (self.marks[row] & mark > 0)[real].all():  # nothing stands among them
            return real, row
        real, row = self._newest(user, int(self._blocks.bounds(user)[1].max()))
        marked = real & (self.marks[row] & mark > 0)
        number = np.cumsum(marked, axis=1)
        request, at = np.nonzero(marked & (number <= rows))
        found = np.zeros((len(user), rows), np.int64)
        found[request, number[request, at] - 1] = row[request, at]
        return np.arange(rows) < number[:, -1:], found

    def _newest(self, user: NDArray[np.integer], rows: int) -> tuple[NDArray[np.bool_], Longs]:
        """The latest rows of any mark; see `latest`."""
        start, size = self._blocks.bounds(user)
        age = np.arange(rows)
        real = age < size[:, None]
        return real, np.where(real, (start + size)[:, None] - 1 - age, 0)

    def items_of(self, user: NDArray[np.integer], mark: int) -> tuple[Longs, Ints]:
        """Items of all kept rows of users with a mark, as flat arrays: place of the user, code.

        Args:
            user: [B] codes; -1 has none.
            mark: a bit.
        """
        known = np.flatnonzero((user >= 0) & (user < len(self.size)))
        rows = self._blocks.rows_of(user[known])
        marked = self.marks[rows] & mark > 0
        return np.repeat(known, self.size[user[known]])[marked], self.item[rows[marked]]

    def remove(self, user: int) -> None:
        """Forget a user's rows.

        Args:
            user: code.
        """
        self._blocks.remove(user)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that is kept, without unused room: rows user by user, and their number per user."""
        return self._blocks.compact(self._names)

    def restore(self, kept: Callable[[str], NDArray[Any]]) -> None:
        """Take over what `arrays` gave, by name, into a pool without rows."""
        self._blocks.restore(self._names, kept)


def _joined(parts: Sequence[DroppedRows]) -> DroppedRows:
    none = DroppedRows(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.uint8))
    names = ("user", "item", "marks")
    return DroppedRows(
        *(np.concatenate([getattr(each, name) for each in (none, *parts)]) for name in names)
    )
