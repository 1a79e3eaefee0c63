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
from goalrank.logs.retrieval.channel import Chunk
from goalrank.logs.retrieval.sparse import load_sparse

__all__ = ["ItemToItem"]

_GRID = 65_536.0
_STRIPE = 128  # rows per step, so that they fit the cache
_DENSE_CELLS = 20_000_000  # up to here counts are a dense matrix (float64)


class ItemToItem:
    """Links between items from transitions in users' sequences, weighted by distance.

    Args:
        log: consumed items, sorted by user and time.
        items: number of items.
        reach: most steps between the two items of a pair.
        depth: number of latest history items that vote.
        links: outgoing links to keep per item, which bounds memory and time.
        vote_weight: [E] weight of a history row's vote (disliked items have less); None is 1.
        threads: worker threads of a refit; results do not depend on it.

    Attributes:
        matrix: sparse [I, I] links, set by `advance`.
    """

    name = "item_to_item"
    needs_evidence = True
    personal = True

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
        self._log = log
        self._size = items
        self._reach = reach
        self._depth = depth
        self._links = links
        self._threads = threads
        self._vote_weight = np.ones(len(log), np.float32) if vote_weight is None else vote_weight
        self._count = np.zeros(items, dtype=np.int64)
        self._pairs: Any = None
        self.matrix: Any = None  # sparse [I, I], set by advance

    def __getstate__(self) -> dict[str, Any]:
        """State for scoring alone, without the counts."""
        return {**self.__dict__, "_pairs": None}

    def advance(self, new_rows: Longs, items: int, users: int) -> None:
        """Count the pairs that end in new rows and rebuild the links; see `RetrievalChannel`."""
        log = self._log
        self._count += np.bincount(log.item[new_rows], minlength=self._size)
        codes: list[Longs] = []
        weights: list[NDArray[np.float64]] = []
        for step in range(1, self._reach + 1):
            rows = new_rows[new_rows >= step]
            rows = rows[log.user[rows] == log.user[rows - step]]
            codes.append(log.item[rows - step].astype(np.int64) * self._size + log.item[rows])
            # On a binary grid sums are exact in any order, so that all code paths agree.
            weights.append(np.full(len(rows), np.rint(step**-0.25 * _GRID) / _GRID))
        self._add(np.concatenate(codes), np.concatenate(weights))
        self.matrix = self._link(items)

    def _add(self, code: Longs, weight: NDArray[np.float64]) -> None:
        sparse = load_sparse()

        size = self._size
        if size * size <= _DENSE_CELLS:
            if self._pairs is None:
                self._pairs = np.zeros(size * size)
            if len(code) * 20 < size * size:
                np.add.at(self._pairs, code, weight)
            else:
                self._pairs += np.bincount(code, weight, minlength=size * size)
            return
        more = sparse.coo_array((weight, (code // size, code % size)), shape=(size, size)).tocsr()
        self._pairs = more if self._pairs is None else self._pairs + more

    def _link(self, items: int) -> Any:
        """Sparse links [I, I]; each row keeps its strongest."""
        sparse = load_sparse()

        count = np.maximum(self._count[:items], 1).astype(np.float32)
        rarity = count ** np.float32(-0.1)
        if isinstance(self._pairs, np.ndarray):
            square = self._pairs.reshape(self._size, self._size)[:items, :items]
            with ThreadPoolExecutor(self._threads) as pool:
                parts = [square[i : i + _STRIPE] for i in range(0, items, _STRIPE)]
                found = list(pool.map(lambda part: _strong(part, rarity, self._links), parts))
            row = np.concatenate([r + i * _STRIPE for i, (r, _, _) in enumerate(found)])
            column = np.concatenate([c for _, c, _ in found])
            data = np.concatenate([d for _, _, d in found])
        else:
            pairs = self._pairs[:items, :items].tocsr()
            row = np.repeat(np.arange(items), np.diff(pairs.indptr))
            column = pairs.indices
            data = (pairs.data * rarity[column]).astype(np.float32)
        lengths = np.bincount(row, minlength=items)
        over = lengths > self._links
        if over.any():
            inside = np.flatnonzero(over[row])
            drop = inside[_surplus(row[inside], data[inside], self._links)]
            row, column, data = np.delete(row, drop), np.delete(column, drop), np.delete(data, drop)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=items))])
        data = (data / count[row]).astype(np.float32)
        return sparse.csr_array((data, column, indptr), shape=(items, items))

    def score(self, chunk: Chunk) -> NDArray[np.float32]:
        """Sum the votes of the recent history: [B, I].

        Args:
            chunk: B requests.
        """
        request, item, age, row = chunk.recent(self._depth)
        weight = np.float32(0.87) ** age.astype(np.float32) * self._vote_weight[row]
        return self._vote(chunk, request, item, weight)

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
        sparse = load_sparse()

        shape = (len(chunk), chunk.items)
        votes = sparse.csr_array((weight, (request, item)), shape=shape)
        dense: NDArray[np.float32] = (votes @ self.matrix).toarray()
        return dense


def _strong(
    stripe: NDArray[np.float64], rarity: NDArray[np.float32], keep: int
) -> tuple[Longs, Longs, NDArray[np.float32]]:
    """(row, column, value) of a stripe's entries above zero, about the ``keep`` best per row."""
    part = (stripe * rarity).astype(np.float32)
    cut = np.full(len(part), np.finfo(np.float32).tiny, np.float32)
    width = part.shape[1]
    if width > keep:
        cut = np.maximum(cut, np.partition(part, width - keep, axis=1)[:, width - keep])
    flat = np.flatnonzero(part >= cut[:, None])
    return flat // width, flat % width, part.ravel()[flat]


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
