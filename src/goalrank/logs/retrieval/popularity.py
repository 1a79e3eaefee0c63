"""Popularity channel: how often an item was consumed before the refit, of late above all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Events, Longs
from goalrank.logs.retrieval.channel import Chunk, RowWeights

__all__ = ["Popularity"]

_KEPT = 0.5  # of a count from refit to refit


class Popularity:
    """Recent popularity of items: log(1 + count), where earlier counts halve at each refit.

    A log grows by the same factor from refit to refit, so that the newest part always has the same
    weight, however long the log is. Why: docs/decisions/0022-retrieval-channels.md.

    Args:
        log: consumed items.
        items: number of items.
    """

    name = "popularity"
    needs_evidence = True
    personal = False

    def __init__(self, log: Events, items: int) -> None:
        self._log = log
        self._take(np.zeros(items))

    def _take(self, count: NDArray[np.float64]) -> None:
        self._count, self._scores = count, np.log1p(count).astype(np.float32)

    def advance(self, new_rows: Longs, items: int, users: int) -> None:
        """Halve the counts and add the rows' items; see `RetrievalChannel`."""
        new = np.bincount(self._log.item[new_rows], minlength=len(self._count))
        self._take(self._count * _KEPT + new)

    def learnt(self) -> dict[str, NDArray[Any]]:
        """The counts."""
        return {"count": self._count}

    @classmethod
    def from_learnt(cls, kept: dict[str, NDArray[Any]], weights: RowWeights) -> Popularity:
        """What `learnt` gave.

        Args:
            kept: arrays.
            weights: are not looked at.
        """
        made = cls.__new__(cls)
        made._take(kept["count"])
        return made

    def score(self, chunk: Chunk) -> NDArray[np.float32]:
        """Score all known items: [B, I], the same row for every request.

        Args:
            chunk: B requests.
        """
        return np.broadcast_to(self._scores[: chunk.items], (len(chunk), chunk.items))
