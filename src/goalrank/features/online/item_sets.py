"""Sets of items of many users, which only grow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.features.online.blocks import Blocks

__all__ = ["ItemSets"]

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


class ItemSets:
    """A set of items per user, about 5 bytes per item.

    An item that comes again may be there twice, until its room is needed.
    """

    def __init__(self) -> None:
        self._blocks = Blocks((np.int32,))

    @property
    def bytes(self) -> int:
        """Memory of the arrays."""
        return self._blocks.bytes

    def add(self, user: NDArray[np.integer], item: NDArray[np.integer]) -> None:
        """Put items into sets.

        Args:
            user: [n] codes.
            item: [n] codes.
        """
        keys = np.unique((user.astype(np.int64) << 32) + item)
        touched, first, more = np.unique(keys >> 32, return_index=True, return_counts=True)
        blocks = self._blocks
        blocks.grow(int(touched.max(initial=-1)) + 1)
        for piece in blocks.pieces(blocks.size[touched] + more):
            users, count = touched[piece], more[piece]
            full = blocks.full(users, count)
            if full.any():
                self._make_room(users[full], count[full])
            begin = int(first[piece.start])
            new = keys[begin : begin + int(count.sum())]
            blocks.arrays[0][blocks.append(users, count)] = (new & 0x7FFFFFFF).astype(np.int32)

    def _make_room(self, user: Longs, more: Longs) -> None:
        """Let each user's block have room for more items, and each item be there once."""
        rows = self._blocks.rows_of(user)
        owner = np.repeat(np.arange(len(user)), self._blocks.size[user])
        _, kept = np.unique((owner << 32) + self._blocks.arrays[0][rows], return_index=True)
        sizes = np.bincount(owner[kept], minlength=len(user))
        self._blocks.settle(user, rows[kept], sizes, sizes + more)

    def items_of(self, user: NDArray[np.integer]) -> tuple[Longs, Ints]:
        """Items of users, as flat arrays: place of the user, code; one may come twice.

        Args:
            user: [B] codes; -1 has none.
        """
        blocks = self._blocks
        known = np.flatnonzero((user >= 0) & (user < len(blocks.size)))
        rows = blocks.rows_of(user[known])
        return np.repeat(known, blocks.size[user[known]]), blocks.arrays[0][rows]

    def remove(self, user: int) -> None:
        """Forget a user's items.

        Args:
            user: code.
        """
        self._blocks.remove(user)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that is kept: items user by user, and their number per user."""
        return self._blocks.compact(("item",))

    def restore(self, kept: Callable[[str], NDArray[Any]]) -> None:
        """Take over what `arrays` gave, by name, into sets that are empty."""
        self._blocks.restore(("item",), kept)
