"""Item-to-item channel: items that users consume soon after an item.

Counts C[a, b] = sum over pairs (a earlier, b later, same user, at most ``reach`` steps apart) of
distance ** -0.25; links S[a, b] = C[a, b] / n(a) / n(b) ** 0.1, the ``links`` strongest of each a.
The score of b is the sum over the request's latest ``depth`` items a of
0.87 ** age * vote_weight(a) * S[a, b]. Exponents and depths were chosen on MovieLens-1M; the
documentation gives the recall.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Events, Longs
from goalrank.logs.retrieval.link_votes import LinkVotes
from goalrank.logs.retrieval.pair_counts import pair_counts
from goalrank.logs.retrieval.sparse import load_sparse
from goalrank.logs.spill.buckets import chunk_ranges

__all__ = ["ItemToItem"]

_GRID = 65_536.0
_ROWS = 1 << 19  # rows whose pairs are counted at once


class ItemToItem(LinkVotes):
    """Links between items from transitions in users' sequences, weighted by distance.

    Args:
        log: consumed items, sorted by user and time.
        items: number of items.
        reach: most steps between the two items of a pair.
        depth: number of latest history items that vote.
        links: outgoing links to keep per item, which bounds memory and time.
        vote_weight: [E] weight of a history row's vote (disliked items have less); None is 1.
        threads: worker threads of a refit; results do not depend on it.

    """

    def __init__(
        self,
        log: Events,
        items: int,
        *,
        reach: int = 20,
        depth: int = 20,
        links: int = 300,
        vote_weight: NDArray[np.float32] | None = None,
        threads: int = 1,
    ) -> None:
        weight = np.ones(len(log), np.float32) if vote_weight is None else vote_weight
        super().__init__(None, weight, depth)
        self._log = log
        self._size = items
        self._reach = reach
        self._links = links
        self._threads = threads
        self._count = np.zeros(items, dtype=np.int64)
        self._pairs = pair_counts(items)

    def __getstate__(self) -> dict[str, Any]:
        """State for scoring alone, without the counts."""
        return {**self.__dict__, "_pairs": None}

    def advance(self, new_rows: Longs, items: int, users: int) -> None:
        """Count the pairs that end in new rows and rebuild the links; see `RetrievalChannel`."""
        for part in chunk_ranges(len(new_rows), _ROWS):
            self._learn(new_rows[part])
        self.matrix = self._link(items)

    def _learn(self, rows: Longs) -> None:
        """Count the pairs that end in some rows."""
        log = self._log
        item, user = log.item[rows].astype(np.int64), log.user[rows]
        self._count += np.bincount(item, minlength=self._size)
        for step in range(1, self._reach + 1):
            earlier = np.maximum(rows - step, 0)
            same = (rows >= step) & (user == log.user[earlier])
            code = log.item[earlier[same]].astype(np.int64) * self._size + item[same]
            # On a binary grid sums are exact in any order, so that all code paths agree.
            self._pairs.add(code, np.rint(step**-0.25 * _GRID) / _GRID)

    def _link(self, items: int) -> Any:
        """Sparse links [I, I]; each row keeps its strongest."""
        sparse = load_sparse()

        count = np.maximum(self._count[:items], 1).astype(np.float32)
        rarity = count ** np.float32(-0.1)
        row, column, data = self._pairs.strong(items, rarity, self._links, self._threads)
        lengths = np.bincount(row, minlength=items)
        over = lengths > self._links
        if over.any():
            inside = np.flatnonzero(over[row])
            drop = inside[_surplus(row[inside], data[inside], self._links)]
            row, column, data = np.delete(row, drop), np.delete(column, drop), np.delete(data, drop)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=items))])
        data = (data / count[row]).astype(np.float32)
        return sparse.csr_array((data, column, indptr), shape=(items, items))


def _surplus(row: Longs, data: NDArray[np.float32], keep: int) -> Longs:
    """Positions of the entries that are not among the largest of their row.

    Args:
        row: row per entry, ascending.
        data: value per entry; of equal values the lowest column is kept.
        keep: entries to keep per row.
    """
    order = np.lexsort((-data, row))
    rank = np.arange(len(row)) - np.searchsorted(row, row, side="left")
    return order[rank >= keep]
