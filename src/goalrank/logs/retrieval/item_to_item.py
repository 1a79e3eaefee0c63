"""Item-to-item channel: items that users consume soon after an item.

Counts C[a, b] = sum over pairs (a earlier, b later, same user, at most ``reach`` steps apart) of
distance ** -0.25; links S[a, b] = C[a, b] / n(a) / n(b) ** 0.1, the ``links`` strongest of each a.
The score of b is the sum over the request's latest ``depth`` items a of
0.87 ** age * vote_weight(a) * S[a, b]. Exponents and depths were chosen on MovieLens-1M; the
documentation gives the recall.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Events, Longs
from goalrank.logs.retrieval.link_votes import LinkVotes
from goalrank.logs.retrieval.pair_counts import pair_counts
from goalrank.logs.retrieval.sparse import load_sparse
from goalrank.logs.spill.buckets import chunk_ranges

__all__ = ["ItemToItem", "strongest"]

_GRID = 65_536.0
_ROWS = 1 << 19  # rows whose pairs are counted at once
_STRIPE = 128  # items whose links are chosen at once


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
        """State for scoring alone, without the counts and the table."""
        return {**self.__dict__, "_pairs": None, "_table": None}

    def advance(self, new_rows: Longs, items: int, users: int) -> None:
        """Count the pairs that end in new rows and rebuild the links; see `RetrievalChannel`."""
        for part in chunk_ranges(len(new_rows), _ROWS):
            self._learn(new_rows[part])
        self.matrix = self._link(items)
        self.spread()

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
        count = np.maximum(self._count[:items], 1).astype(np.float32)
        rarity = (count ** np.float32(-0.1)).astype(np.float64)
        self._pairs.settle()

        def stripe(start: int) -> tuple[Longs, Longs, NDArray[np.float32]]:
            stop = min(start + _STRIPE, items)
            row, column, pairs = self._pairs.above_zero(start, stop, items)
            value = (pairs * rarity[column]).astype(np.float32)
            kept = strongest(row, value, self._links)
            row, column = row[kept], column[kept]
            return (
                np.bincount(row, minlength=stop - start),
                column,
                value[kept] / count[start + row],
            )

        with ThreadPoolExecutor(self._threads) as pool:
            lengths, columns, values = zip(*pool.map(stripe, range(0, items, _STRIPE)), strict=True)
        ends = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        parts = (np.concatenate(values), np.concatenate(columns), ends)
        return load_sparse().csr_array(parts, shape=(items, items))


def strongest(row: Longs, value: NDArray[np.float32], keep: int) -> Longs:
    """Positions of the largest values of each row, ascending.

    Args:
        row: row per entry, ascending, below 128.
        value: value per entry, above 0; of equal values the first are taken.
        keep: entries per row at most.
    """
    lengths = np.bincount(row)
    if lengths.max(initial=0) <= keep:
        return np.arange(len(row))
    # One number per entry sorts by row, falling value and position: 7, 31 and 26 bits.
    falling = np.uint64(0x7FFFFFFF) - value.view(np.uint32)
    key = (row.astype(np.uint64) << np.uint64(57)) | (falling << np.uint64(26))
    key |= np.arange(len(row), dtype=np.uint64)
    key.sort()
    rank = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.sort((key[rank < keep] & np.uint64((1 << 26) - 1)).astype(np.int64))
