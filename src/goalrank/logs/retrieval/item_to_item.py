"""Sequential item-to-item: what users consume soon after an item.

Counts C[a, b] = sum over pairs (a earlier, b later, same user, at most ``reach`` steps apart) of
distance ** -0.25; links S[a, b] = C[a, b] / n(a) / n(b) ** 0.1, the ``links`` strongest of each a.
A request scores b by the sum over its latest ``depth`` items a of 0.87 ** age * taste(a) * S[a, b].
Exponents and depths were chosen on MovieLens-1M; see docs for the recall they give.
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
_STRIPE = 128  # rows worked on at once: fits the cache
_DENSE_CELLS = 20_000_000  # below, counts live in one dense matrix (float64)


class ItemToItem:
    """Transition counts within users' sequences, weighed by distance; only the past is counted.

    Args:
        log: consumed items, sorted by user and time.
        items: size of the catalogue.
        reach: steps between the two items of a pair.
        depth: latest history items that vote.
        links: outgoing links kept an item (bounds memory and time).
        taste: [E] weight of a history row's vote (a disliked item votes less).
        threads: worker threads of a refit; results do not depend on it.
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
        taste: NDArray[np.float32] | None = None,
        threads: int = 1,
    ) -> None:
        self._log = log
        self._size = items
        self._reach = reach
        self._depth = depth
        self._links = links
        self._threads = threads
        self._taste = np.ones(len(log), np.float32) if taste is None else taste
        self._count = np.zeros(items, dtype=np.int64)
        self._pairs: Any = None
        self.matrix: Any = None  # sparse [I, I], set by advance

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pairs": None}  # a copy scores; it does not learn

    def advance(self, new_rows: Longs, items: int, users: int) -> None:
        """Add the pairs whose later item is in ``new_rows`` and rebuild the links."""
        log = self._log
        self._count += np.bincount(log.item[new_rows], minlength=self._size)
        codes: list[Longs] = []
        weights: list[NDArray[np.float64]] = []
        for step in range(1, self._reach + 1):
            rows = new_rows[new_rows >= step]
            rows = rows[log.user[rows] == log.user[rows - step]]
            codes.append(log.item[rows - step].astype(np.int64) * self._size + log.item[rows])
            # on a binary grid sums are exact, whatever their order: same bits on every path
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
        """[I, I] sparse links, each row cut to its strongest."""
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
            drop = inside[_beyond(row[inside], data[inside], self._links)]
            row, column, data = np.delete(row, drop), np.delete(column, drop), np.delete(data, drop)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=items))])
        data = (data / count[row]).astype(np.float32)
        return sparse.csr_array((data, column, indptr), shape=(items, items))

    def score(self, chunk: Chunk) -> NDArray[np.float32]:
        """[B, I] summed votes of the recent history."""
        request, item, age, row = chunk.recent(self._depth)
        weight = np.float32(0.87) ** age.astype(np.float32) * self._taste[row]
        return self._vote(chunk, request, item, weight)

    def score_last(self, chunk: Chunk) -> NDArray[np.float32]:
        """[B, I] links of the latest history item alone."""
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
    """(row, column, value) of a stripe's entries above zero, cut near each row's ``keep`` best."""
    part = (stripe * rarity).astype(np.float32)
    cut = np.full(len(part), np.finfo(np.float32).tiny, np.float32)
    width = part.shape[1]
    if width > keep:
        cut = np.maximum(cut, np.partition(part, width - keep, axis=1)[:, width - keep])
    flat = np.flatnonzero(part >= cut[:, None])
    return flat // width, flat % width, part.ravel()[flat]


def _beyond(row: Longs, data: NDArray[np.float32], keep: int) -> Longs:
    """Positions of what is not among the ``keep`` largest of its row (ties: lowest column stays).

    Args:
        row: ascending.
        data: one value an entry.
        keep: entries kept a row.
    """
    order = np.lexsort((-data, row))
    rank = np.arange(len(row)) - np.searchsorted(row, row, side="left")
    return order[rank >= keep]
