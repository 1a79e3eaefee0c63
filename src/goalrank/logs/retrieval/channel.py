"""Protocol of retrieval channels, and the chunk of requests that they score."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Events, Ints, Longs, ragged_ranges

__all__ = ["Chunk", "RetrievalChannel"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Chunk:
    """Up to ``size`` requests between two refits.

    Attributes:
        log: consumed items of all users, sorted by user and time.
        start, end: [B] rows of each request's history, strictly before the request.
        items: I, number of known items; only codes below I can be retrieved.
        size: number of rows that arrays are padded to where results could depend on their shape.
    """

    log: Events
    start: Longs
    end: Longs
    items: int
    size: int

    def __len__(self) -> int:
        return len(self.start)

    def recent(self, depth: int) -> tuple[Longs, Ints, Longs, Longs]:
        """The latest known history items of each request, latest first.

        Args:
            depth: the most items per request.

        Returns:
            Flat arrays (request, item, age, row); age 0 is the latest.
        """
        rows = self.end[:, None] - 1 - np.arange(depth)
        real = rows >= self.start[:, None]
        item = self.log.item[np.where(real, rows, 0)]
        request, age = np.nonzero(real & (item < self.items))
        row = rows[request, age]
        return request, self.log.item[row], age, row

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """Whether each item is in the request's whole history: [B, I]."""
        lengths = self.end - self.start
        request = np.repeat(np.arange(len(self), dtype=np.int64), lengths)
        item = self.log.item[ragged_ranges(self.start, lengths)]
        known = item < self.items
        table = np.zeros((len(self), self.items), dtype=bool)
        table[request[known], item[known]] = True
        return table


class RetrievalChannel(Protocol):
    """A retriever that is refitted as the log grows.

    ``advance`` is called with new rows, then ``score`` for the requests until the next refit.

    Attributes:
        name: name of the channel.
        needs_evidence: whether items with score 0 are not retrieved.
        personal: False if all requests of a chunk get the same scores.
    """

    name: str
    needs_evidence: bool
    personal: bool

    def advance(self, new_rows: Longs, items: int, users: int) -> None:
        """Learn new rows of the log.

        Args:
            new_rows: rows that were added since the last refit, ascending; each comes once.
            items: number of known items.
            users: number of known users.
        """

    def score(self, chunk: Chunk) -> Floats:
        """Score all known items: [B, I], larger is better, 0 without evidence.

        Args:
            chunk: B requests.
        """
