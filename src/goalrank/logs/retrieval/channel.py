"""What a retrieval channel is, and the batch of requests that it scores."""

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
    """Up to ``size`` requests of one refit block.

    Attributes:
        log: consumed items of all users, sorted by user and time.
        start, end: [B] rows of each request's history: strictly before the request.
        items: I, items known to the block; only codes below I can be retrieved.
        size: rows are padded to this many where a result could depend on the batch shape.
    """

    log: Events
    start: Longs
    end: Longs
    items: int
    size: int

    def __len__(self) -> int:
        return len(self.start)

    def recent(self, depth: int) -> tuple[Longs, Ints, Longs, Longs]:
        """The last ``depth`` known history items of each request, latest first.

        Returns:
            (request, item, age, row), flat; age 0 is the latest.
        """
        rows = self.end[:, None] - 1 - np.arange(depth)
        real = rows >= self.start[:, None]
        item = self.log.item[np.where(real, rows, 0)]
        request, age = np.nonzero(real & (item < self.items))
        row = rows[request, age]
        return request, self.log.item[row], age, row

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """[B, I] items of the whole history."""
        lengths = self.end - self.start
        request = np.repeat(np.arange(len(self), dtype=np.int64), lengths)
        item = self.log.item[ragged_ranges(self.start, lengths)]
        known = item < self.items
        table = np.zeros((len(self), self.items), dtype=bool)
        table[request[known], item[known]] = True
        return table


class RetrievalChannel(Protocol):
    """A retriever that is refitted as the log grows.

    ``advance`` is called with ever more rows, then ``score`` for the requests of that block.
    """

    name: str
    needs_evidence: bool  # items scored 0 are not retrieved
    personal: bool  # False: every request of a block gets the same scores

    def advance(self, new_rows: Longs, items: int, users: int) -> None:
        """Learn rows ``new_rows`` of the log (ascending; each row comes exactly once).

        Args:
            new_rows: rows that this refit sees and the one before did not.
            items, users: codes known to this refit.
        """

    def score(self, chunk: Chunk) -> Floats:
        """[B, I] scores, larger is better, 0 where there is no evidence."""
