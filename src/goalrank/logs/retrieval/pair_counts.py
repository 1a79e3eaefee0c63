"""Weighted counts of pairs of items, dense for small catalogues and sparse for large ones."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Longs
from goalrank.logs.retrieval.sparse import load_sparse

__all__ = ["PairCounts", "pair_bytes", "pair_counts"]

_DENSE_CELLS = 50_000_000  # up to here counts are a dense matrix (float64, 400 MB)
_WAITING = 4_000_000  # pairs that wait to be added to sparse counts

Entries = tuple[Longs, Longs, NDArray[np.float64]]  # row, column, count


class PairCounts(Protocol):
    """Counts of pairs of I items; sums of weights on a binary grid are exact in any order."""

    def add(self, code: Longs, weight: float) -> None:
        """Add a weight to pairs.

        Args:
            code: [P] first item · I + second item; a pair may come several times.
            weight: of each.
        """

    def settle(self) -> None:
        """Finish what `add` began, so that several threads may read."""

    def above_zero(self, start: int, stop: int, items: int) -> Entries:
        """Counts above zero in some rows, by row and column; columns of other items are left out.

        Args:
            start: first row; the row numbers that are given begin at 0.
            stop: end of the rows.
            items: number of known items.
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

    def settle(self) -> None:
        pass

    def above_zero(self, start: int, stop: int, items: int) -> Entries:
        part = self._counts[start:stop, :items]
        row, column = np.divmod(np.flatnonzero(part > 0), items)
        return row, column, part[row, column]


class _Sparse:
    def __init__(self, size: int) -> None:
        self._size = size
        self._counts: Any = load_sparse().csr_array((size, size))
        self._waiting: list[tuple[Longs, float]] = []

    def add(self, code: Longs, weight: float) -> None:
        self._waiting.append((code, weight))
        if sum(len(c) for c, _ in self._waiting) > max(_WAITING, self._counts.nnz // 2):
            self.settle()

    def settle(self) -> None:
        if not self._waiting:
            return
        codes, weights = zip(*self._waiting, strict=True)
        weight = np.repeat(weights, [len(code) for code in codes])
        code = np.concatenate(codes)
        self._waiting = []
        shape = (self._size, self._size)
        pairs = (code // self._size, code % self._size)
        self._counts = self._counts + load_sparse().coo_array((weight, pairs), shape=shape).tocsr()

    def above_zero(self, start: int, stop: int, items: int) -> Entries:
        part = self._counts[start:stop, :items].tocsr()
        return np.repeat(np.arange(stop - start), np.diff(part.indptr)), part.indices, part.data
