"""Room for rows of many users in one set of arrays: a block per user, in pages of blocks of one size.

Rows of a user that has outgrown its block move to a larger one, and the last block of the old size
moves into its place. Blocks of one size therefore stand without holes, and a page that is left empty
serves another size. Nothing is ever written anew as a whole, so that no step takes long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Blocks", "runs_of", "within"]

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

_PAGE = 4096  # rows
_SPARE = 16  # a block that is made has room for one more of so many rows
_GROWTH = 32  # arrays grow by one of so many rows
_TOGETHER = 1 << 16  # rows that are moved at once: indices, and room that is free only after
# Four sizes from each power of two to the next; 0 is no block.
_ROOMS: Longs = np.array([0, *((4 + n % 4) << n // 4 for n in range(112))], np.int64)


class _Size:
    """All blocks of one size: the first so many places of some pages.

    Args:
        room: rows per block; blocks above a page take a run of pages.
    """

    def __init__(self, room: int) -> None:
        self.room, self.per, self.run = room, max(_PAGE // room, 1), -(-room // _PAGE)
        self.pages: Longs = np.zeros(0, np.int64)
        self.owner: Ints = np.zeros(0, np.int32)
        self.count = 0

    def starts(self, index: Longs) -> Longs:
        """First rows of blocks."""
        found: Longs = self.pages[index // self.per] * _PAGE + index % self.per * self.room
        return found


class Blocks:
    """Arrays of rows, in which each user's stand together in the order in which they were added.

    Args:
        types: of the arrays.

    Attributes:
        arrays: [R] each; there is always a row to look at, also for users without any.
        start: [U] first row of each user.
        size: [U] rows of each user.
    """

    def __init__(self, types: Sequence[Any]) -> None:
        self.arrays: list[NDArray[Any]] = [np.zeros(1, kind) for kind in types]
        self.start: Longs = np.zeros(0, np.int64)
        self.size: Ints = np.zeros(0, np.int32)
        self._kind: NDArray[np.uint8] = np.zeros(0, np.uint8)  # place in _ROOMS
        self._sizes = [_Size(max(int(room), 1)) for room in _ROOMS]
        self._place: Ints = np.zeros(0, np.int32)  # of each page among those of its size
        self._vacant: NDArray[np.bool_] = np.zeros(0, bool)  # pages

    @property
    def bytes(self) -> int:
        """Memory of the arrays and of what says where rows are."""
        per_user = (self.start, self.size, self._kind, self._place, self._vacant)
        pages = (array for each in self._sizes for array in (each.pages, each.owner))
        return sum(array.nbytes for array in (*self.arrays, *per_user, *pages))

    @property
    def rows(self) -> int:
        """Rows that are kept."""
        return int(self.size.sum())

    def grow(self, users: int) -> None:
        """Make room for more users.

        Args:
            users: number of users from now on.
        """
        more = users - len(self.start)
        if more > 0:
            more = max(more, len(self.start) // 8)
            for name in ("start", "size", "_kind"):
                setattr(self, name, np.pad(getattr(self, name), (0, more)))

    def pieces(self, rows: Longs) -> Iterator[slice]:
        """Cut users into pieces that are worked on at once.

        Args:
            rows: [n] of each user.
        """
        piece = np.cumsum(rows) // _TOGETHER
        bounds = [0, *(np.flatnonzero(np.diff(piece)) + 1).tolist(), len(rows)]
        yield from (slice(*pair) for pair in pairwise(bounds) if pair[0] < pair[1])

    def full(self, user: NDArray[np.integer], more: Longs) -> NDArray[np.bool_]:
        """Whether users lack room for more rows: [n]."""
        lacking: NDArray[np.bool_] = self.size[user] + more > _ROOMS[self._kind[user]]
        return lacking

    def room_for(self, rows: int) -> int:
        """Rows of a block that is made for some rows."""
        return int(_ROOMS[_kind_for(np.array([rows]))[0]])

    def append(self, user: NDArray[np.integer], more: Longs) -> Longs:
        """Places of new rows after those of users who have room for them, user by user.

        Args:
            user: [n] codes, each once.
            more: [n] new rows.
        """
        end = self.start[user] + self.size[user]
        self.size[user] += more.astype(np.int32)
        return _ranges(end, more)

    def rows_of(self, user: NDArray[np.integer]) -> Longs:
        """All rows of some users, user by user, oldest first.

        Args:
            user: [n] codes.
        """
        return _ranges(self.start[user], self.size[user])

    def bounds(self, user: NDArray[np.integer]) -> tuple[Longs, Longs]:
        """Where the rows of users begin, and how many there are: [B] each; 0 for unknown users.

        Args:
            user: [B] codes, -1 for unknown ones.
        """
        known = (user >= 0) & (user < len(self.start))
        if not known.any():
            none = np.zeros(len(user), np.int64)
            return none, none
        safe = np.where(known, user, 0)
        return self.start[safe], np.where(known, self.size[safe], 0).astype(np.int64)

    def settle(self, user: NDArray[np.integer], rows: Longs, sizes: Longs, need: Longs) -> None:
        """Give users blocks that have room, and keep some of their rows.

        Args:
            user: [n] codes, each once.
            rows: those that are kept, user by user.
            sizes: [n] how many they are.
            need: [n] rows that there is to be room for.
        """
        old, old_kind = self.start[user], self._kind[user]
        kind = _kind_for(need)
        start, moved = old.copy(), kind != old_kind
        for each in np.unique(kind[moved & (kind > 0)]).tolist():
            mine = moved & (kind == each)
            start[mine] = self._allocate(self._sizes[each], user[mine])
        target = _ranges(start, sizes)
        for array in self.arrays:
            array[target] = array[rows]
        self.start[user], self.size[user], self._kind[user] = start, sizes, kind
        for each in np.unique(old_kind[moved & (old_kind > 0)]).tolist():
            self._release(self._sizes[each], old[moved & (old_kind == each)])

    def _allocate(self, size: _Size, user: NDArray[np.integer]) -> Longs:
        """First rows of new blocks of a size."""
        index = size.count + np.arange(len(user))
        size.count += len(user)
        missing = -(-size.count // size.per) - len(size.pages)
        if missing > 0:
            taken = self._take(missing, size.run)
            self._place[taken] = len(size.pages) + np.arange(missing)
            size.pages = np.append(size.pages, taken)
        if size.count > len(size.owner):
            size.owner = np.append(
                size.owner, np.zeros(size.count + size.count // 8 - len(size.owner), np.int32)
            )
        size.owner[index] = user
        return size.starts(index)

    def _release(self, size: _Size, start: Longs) -> None:
        """Take blocks back, and move the last ones of their size into their places."""
        index = self._place[start // _PAGE] * size.per + start % _PAGE // size.room
        size.count -= len(index)
        holes, beyond = index[index < size.count], index[index >= size.count]
        left = np.ones(len(index), bool)
        left[beyond - size.count] = False
        owner = size.owner[size.count + np.flatnonzero(left)]
        size.owner[holes] = owner
        target = size.starts(holes)
        for piece in self.pieces(self.size[owner].astype(np.int64)):
            self._move(owner[piece], target[piece])
        pages = -(-size.count // size.per)
        self._vacant[(size.pages[pages:, None] + np.arange(size.run)).ravel()] = True
        size.pages = size.pages[:pages].copy()
        if size.count < len(size.owner) // 2:
            size.owner = size.owner[: size.count].copy()

    def _move(self, user: NDArray[np.integer], start: Longs) -> None:
        rows, target = self.rows_of(user), _ranges(start, self.size[user])
        for array in self.arrays:
            array[target] = array[rows]
        self.start[user] = start

    def _take(self, count: int, run: int) -> Longs:
        """First pages of runs of vacant pages, which are vacant no longer."""
        found = runs_of(self._vacant, run)[:count]
        if len(found) < count:
            self._enlarge((count - len(found)) * run)
            found = runs_of(self._vacant, run)[:count]
        self._vacant[(found[:, None] + np.arange(run)).ravel()] = False
        return found

    def _enlarge(self, pages: int) -> None:
        """Make the arrays longer, one after another, and where they are if the system can."""
        more = max(pages, len(self._vacant) // _GROWTH)
        self._vacant = np.append(self._vacant, np.ones(more, bool))
        self._place = np.append(self._place, np.zeros(more, np.int32))
        rows = len(self._vacant) * _PAGE
        for at in range(len(self.arrays)):
            try:
                self.arrays[at].resize(rows)
            except ValueError:  # somebody else looks at it
                old = self.arrays[at]
                self.arrays[at] = np.append(old, np.zeros(rows - len(old), old.dtype))

    def remove(self, user: int) -> None:
        """Forget a user's rows.

        Args:
            user: code.
        """
        if user < len(self.start) and self._kind[user]:
            size, start = self._sizes[self._kind[user]], self.start[user]
            for array in self.arrays:
                array[start : start + size.room] = 0
            self.size[user], self._kind[user] = 0, 0
            self._release(size, np.array([start]))

    def compact(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """All that is kept, without unused room: rows user by user, and their number per user.

        Args:
            names: of the arrays.
        """
        user, total = np.arange(len(self.start)), self.rows
        kept = {name: np.empty(total, a.dtype) for name, a in zip(names, self.arrays, strict=True)}
        at = 0
        for piece in self.pieces(self.size.astype(np.int64)):
            rows = self.rows_of(user[piece])
            for new, old in zip(kept.values(), self.arrays, strict=True):
                new[at : at + len(rows)] = old[rows]
            at += len(rows)
        return {**kept, "size": self.size.copy()}

    def restore(self, names: Sequence[str], kept: Callable[[str], NDArray[Any]]) -> None:
        """Take over what `compact` gave, into blocks without users.

        Args:
            names: of the arrays.
            kept: gives the array of a name; each is asked for once, so that not all need be in
                memory.
        """
        sizes = kept("size").astype(np.int64)
        user, ends = np.arange(len(sizes)), np.cumsum(sizes)
        self.grow(len(sizes))
        self.settle(user, np.zeros(0, np.int64), np.zeros_like(sizes), sizes)
        self.size[user] = sizes
        for array, name in zip(self.arrays, names, strict=True):
            whole = kept(name)
            for piece in self.pieces(sizes):
                begin = ends[piece.start] - sizes[piece.start]
                array[self.rows_of(user[piece])] = whole[begin : ends[piece.stop - 1]]


def runs_of(vacant: NDArray[np.bool_], length: int) -> Longs:
    """First places of runs of true values, none of which has a place in common with another.

    Args:
        vacant: [P].
        length: of the runs.
    """
    if length == 1:
        return np.flatnonzero(vacant)
    edges = np.flatnonzero(np.diff(vacant.astype(np.int8), prepend=0, append=0))
    begin, lengths = edges[::2], edges[1::2] - edges[::2]
    fitting = lengths // length
    found: Longs = np.repeat(begin, fitting) + within(fitting) * length
    return found


def within(sizes: NDArray[np.integer]) -> Longs:
    """0, 1, … within each of several runs, one after another."""
    place: Longs = np.arange(int(sizes.sum())) - np.repeat(
        np.cumsum(sizes, dtype=np.int64) - sizes, sizes
    )
    return place


def _kind_for(need: Longs) -> NDArray[np.uint8]:
    kind: NDArray[np.uint8] = np.searchsorted(_ROOMS, need + need // _SPARE).astype(np.uint8)
    return kind


def _ranges(start: Longs, sizes: NDArray[np.integer]) -> Longs:
    """Runs of rows, one after another."""
    rows: Longs = np.repeat(start, sizes) + within(sizes)
    return rows
