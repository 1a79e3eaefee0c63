"""Popularity channel: how often an item was consumed before the refit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Events, Longs
from goalrank.logs.retrieval.channel import Chunk

__all__ = ["Popularity"]


class Popularity:
    """Popularity of items, log(1 + count).

    Args:
        log: consumed items.
        items: number of items.
    """

    name = "popularity"
    needs_evidence = True
    personal = False

    def __init__(self, log: Events, items: int) -> None:
        self._log = log
        self._count = np.zeros(items, dtype=np.int64)

    def advance(self, new_rows: Longs, items: int, users: int) -> None:
        """Add the rows' items to the counts; see `RetrievalChannel`."""
        self._count += np.bincount(self._log.item[new_rows], minlength=len(self._count))

    def score(self, chunk: Chunk) -> NDArray[np.float32]:
        """Score all known items: [B, I], the same row for every request.

        Args:
            chunk: B requests.
        """
        row = np.log1p(self._count[: chunk.items]).astype(np.float32)
        return np.broadcast_to(row, (len(chunk), chunk.items))
