"""Protocol of retrieval channels, and the chunk of requests that they score."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Ints, Longs, ragged_ranges

__all__ = [
    "Chunk",
    "ItemScorer",
    "RetrievalChannel",
    "RowWeights",
    "ScoringChannel",
    "added_up",
]

Floats = NDArray[np.float32]


class ItemRows(Protocol):
    """Rows of users' histories, of a log or of a server's state."""

    @property
    def item(self) -> Ints:
        """[R] codes of the rows' items."""


@dataclass(frozen=True)
class Chunk:
    """Up to ``size`` requests between two refits.

    Attributes:
        log: consumed items of all users; those of a user stand together, by time.
        start, end: [B] rows of each request's history, strictly before the request.
        items: I, number of known items; only codes below I can be retrieved.
        size: number of rows that arrays are padded to where results could depend on their shape.
        kept: what channels work out once for these requests, by name.
    """

    log: ItemRows
    start: Longs
    end: Longs
    items: int
    size: int
    kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False, kw_only=True)

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


class RowWeights(Protocol):
    """A weight per row of a log: an array, or what looks it up."""

    def __getitem__(self, rows: Longs, /) -> Floats:
        """Weights of rows: [n]."""


class ItemScorer(Protocol):
    """A model that scores all known items for a chunk of requests.

    Larger is better; 0 is without evidence.

    Attributes:
        name: name of the feature made from the scores.
    """

    name: str

    def score(self, chunk: Chunk) -> Floats:
        """Score all known items: [B, I].

        Args:
            chunk: B requests.
        """


class ScoringChannel(ItemScorer, Protocol):
    """A retriever as it is now.

    One that can answer without the scores of all items has two more methods, and ``score`` is then
    not called: ``of(chunk, items)``, scores [B, M] of some items [B, M]; and ``best(chunk, count,
    excluded)``, codes [B, count] of the best items without those of a mask [B, I], best first, -1
    for none. Where scores depend, by rounding, on how many requests are asked for at once, both
    work in double precision, so that an import and a server put nearly equal items in the same
    order.

    Attributes:
        needs_evidence: whether items with score 0 are not retrieved.
        personal: False if all requests of a chunk get the same scores.
    """

    needs_evidence: bool
    personal: bool


class RetrievalChannel(ScoringChannel, Protocol):
    """A retriever that is refitted as the log grows.

    ``advance`` is called with new rows, then ``score`` for the requests until the next refit.
    """

    def advance(self, new_rows: Longs, items: int, users: int) -> None:
        """Learn new rows of the log.

        Args:
            new_rows: rows that were added since the last refit, ascending; each comes once.
            items: number of known items.
            users: number of known users.
        """


def added_up(place: Longs, weight: Floats) -> tuple[Longs, Floats]:
    """Add up the weights of equal places.

    Args:
        place: [n] numbers in any order.
        weight: [n].

    Returns:
        The places, ascending and each once, and the sum of the weights of each.
    """
    order = np.argsort(place, kind="stable")
    place = place[order]
    first = np.flatnonzero(np.append(np.ones(min(len(place), 1), bool), place[1:] != place[:-1]))
    return place[first], np.add.reduceat(weight[order], first) if len(first) else weight
