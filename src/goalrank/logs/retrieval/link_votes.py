"""Scores of items by links from the items of a history."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Longs, ragged_ranges
from goalrank.logs.retrieval.channel import Chunk, RowWeights
from goalrank.logs.retrieval.sparse import load_sparse

__all__ = ["LinkVotes", "Transition"]

_TABLE_CELLS = 16_000_000  # 64 MB


class LinkVotes:
    """Votes of history items for the items that they have links to.

    Args:
        matrix: sparse [I, I] links; None until some are learnt.
        weights: weight of each row of the log.
        depth: number of latest history items that vote.

    Attributes:
        matrix: as given.
    """

    name = "item_to_item"
    needs_evidence = True
    personal = True

    def __init__(self, matrix: Any, weights: RowWeights, depth: int = 20) -> None:
        self.matrix, self._vote_weight, self._depth = matrix, weights, depth
        self._table: NDArray[np.float32] | None = None

    def spread(self) -> None:
        """Keep the links of a small catalogue as a table too: votes take half the time, equal."""
        size = self.matrix.shape[0]
        self._table = self.matrix.toarray() if size * size <= _TABLE_CELLS else None

    def learnt(self) -> dict[str, NDArray[Any]]:
        """The links as arrays."""
        matrix = self.matrix
        return {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}

    @classmethod
    def from_learnt(cls, kept: dict[str, NDArray[Any]], weights: RowWeights) -> LinkVotes:
        """What `learnt` gave, for the rows of another log.

        Args:
            kept: arrays.
            weights: weight of each row of that log.
        """
        size = len(kept["indptr"]) - 1
        parts = (kept["data"], kept["indices"], kept["indptr"])
        return LinkVotes(load_sparse().csr_array(parts, shape=(size, size)), weights)

    def score(self, chunk: Chunk) -> NDArray[np.float32]:
        """Sum the votes of the recent history: [B, I].

        Args:
            chunk: B requests.
        """
        if self.name not in chunk.kept:
            request, item, age, row = chunk.recent(self._depth)
            weight = np.float32(0.87) ** age.astype(np.float32) * self._vote_weight[row]
            chunk.kept[self.name] = self._vote(chunk, request, item, weight)
        scores: NDArray[np.float32] = chunk.kept[self.name]
        return scores

    def score_last(self, chunk: Chunk) -> NDArray[np.float32]:
        """Links of the latest history item alone: [B, I].

        Args:
            chunk: B requests.
        """
        request, item, _, _ = chunk.recent(self._depth)
        latest = np.ones(len(request), dtype=bool)
        latest[1:] = request[1:] != request[:-1]
        return self._vote(chunk, request[latest], item[latest], np.ones(latest.sum(), np.float32))

    def _vote(
        self, chunk: Chunk, request: Longs, item: NDArray[np.int32], weight: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        shape = (len(chunk), chunk.items)
        # Adds up the votes of an item that occurs often: for both ways here, as rounding has it.
        votes = load_sparse().csr_array((weight, (request, item)), shape=shape)
        if self._table is not None:
            table: NDArray[np.float32] = votes @ self._table
            return table
        request = np.repeat(np.arange(len(chunk), dtype=np.int64), np.diff(votes.indptr))
        item, weight = votes.indices, votes.data
        start, end = self.matrix.indptr[item], self.matrix.indptr[item + 1]
        links = ragged_ranges(start, end - start)
        to = np.repeat(request, end - start) * chunk.items + self.matrix.indices[links]
        scores = np.zeros(len(chunk) * chunk.items, np.float32)
        np.add.at(scores, to, np.repeat(weight, end - start) * self.matrix.data[links])
        return scores.reshape(len(chunk), chunk.items)


class Transition:
    """Links from the latest history item alone, or from the recent ones.

    Args:
        model: the links.
        last: whether the latest item alone votes.
    """

    def __init__(self, model: LinkVotes, *, last: bool) -> None:
        self.name = "transition_last" if last else "transition_recent"
        self._score = model.score_last if last else model.score

    def score(self, chunk: Chunk) -> NDArray[np.float32]:
        """Score all known items: [B, I]."""
        return self._score(chunk)
