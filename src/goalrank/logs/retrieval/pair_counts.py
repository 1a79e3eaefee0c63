"""Weighted counts of pairs of items, dense for small catalogues and sparse for large ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Longs
from goalrank.logs.retrieval.sparse import load_sparse

__all__ = ["PairCounts", "pair_bytes", "pair_counts"]

_STRIPE = 128  # rows per step, so that they fit the cache
_DENSE_CELLS = 50_000_000  # up to here counts are a dense matrix (float64, 400 MB)
_WAITING = 4_000_000  # pairs that wait to be added to sparse counts

Floats = NDArray[np.float32]
Entries = tuple[Longs, Longs, Floats]  # row, column, value


class PairCounts(Protocol):
    """Counts of pairs of I items; sums of weights on a binary grid are exact in any order."""

    def add(self, code: Longs, weight: float) -> None:
        """Add a weight to pairs.

        Args:
            code: [P] first item · I + second item; a pair may come several times.
            weight: of each.
        """

    def strong(self, items: int, rarity: Floats, keep: int, threads: int) -> Entries:
        """Counts times the rarity of the second item, about the ``keep`` best per row or all.

        Args:
            items: number of known items; others are left out.
            rarity: [items].
            keep: entries per row that are surely among them.
            threads: worker threads.
        """


def pair_counts(size: int) -> PairCounts:
    """Counts of zero.

    Args:
        size: I.
    """
    return _Dense(size) if size * size <= _DENSE_CELLS else _Sparse(size)


def pair_bytes(size: int, pairs: float) -> float:
    """Memory of `pair_counts`, in bytes.

    Args:
        size: I.
        pairs: pairs to count, with repetitions.
    """
    cells = float(size) * size
    return 8 * cells if cells <= _DENSE_CELLS else 40 * min(cells, pairs)


class _Dense:
    def __init__(self, size: int) -> None:
        self._counts = np.zeros((size, size))

    def add(self, code: Longs, weight: float) -> None:
        np.add.at(self._counts.ravel(), code, weight)

    def strong(self, items: int, rarity: Floats, keep: int, threads: int) -> Entries:
        starts = range(0, items, _STRIPE)

        def stripe(start: int) -> Entries:
            part = self._counts[start : min(start + _STRIPE, items), :items]
            row, column, value = _strong(part, rarity, keep)
            return row + start, column, value

        with ThreadPoolExecutor(threads) as pool:
            rows, columns, values = zip(*pool.map(stripe, starts), strict=True)
        return np.concatenate(rows), np.concatenate(columns), np.concatenate(values)


class _Sparse:
    def __init__(self, size: int) -> None:
        self._size = size
        self._counts: Any = load_sparse().csr_array((size, size))
        self._waiting: list[tuple[Longs, float]] = []

    def add(self, code: Longs, weight: float) -> None:
        self._waiting.append((code, weight))
        if sum(len(c) for c, _ in self._waiting) > max(_WAITING, self._counts.nnz // 2):
            self._settle()

    def _settle(self) -> None:
        codes, weights = zip(*self._waiting, strict=True)
        weight = np.repeat(weights, [len(code) for code in codes])
        code = np.concatenate(codes)
        self._waiting = []
        shape = (self._size, self._size)
        pairs = (code // self._size, code % self._size)
        self._counts = self._counts + load_sparse().coo_array((weight, pairs), shape=shape).tocsr()

    def strong(self, items: int, rarity: Floats, keep: int, threads: int) -> Entries:
        if self._waiting:
            self._settle()
        known = self._counts[:items, :items].tocsr()
        row = np.repeat(np.arange(items), np.diff(known.indptr))
        return row, known.indices, (known.data * rarity[known.indices]).astype(np.float32)


def _strong(stripe: NDArray[np.float64], rarity: Floats, keep: int) -> Entries:
    """(row, column, value) of a stripe's entries above zero, about the ``keep`` best per row."""
    part = (stripe * rarity).astype(np.float32)
    cut = np.full(len(part), np.finfo(np.float32).tiny, np.float32)
    width = part.shape[1]
    if width > keep:
        cut = np.maximum(cut, np.partition(part, width - keep, axis=1)[:, width - keep])
    flat = np.flatnonzero(part >= cut[:, None])
    return flat // width, flat % width, part.ravel()[flat]
