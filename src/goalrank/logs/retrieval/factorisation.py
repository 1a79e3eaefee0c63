"""Factorisation channel: implicit-feedback ALS, refitted from the previous factors.

A request's vector is folded in from its own history instead of looked up by user, so that later
rows of the user cannot influence it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.errors import MissingExtraError
from goalrank.logs.events.arrays import Events, Longs, ragged_ranges
from goalrank.logs.retrieval.folded_in import ALPHA, RIDGE, FoldedIn, ItemFactors
from goalrank.logs.retrieval.sparse import load_sparse

__all__ = ["Factorisation", "least_squares"]

_ROWS = 1 << 21  # rows that are copied at once


class Factorisation(FoldedIn):
    """Implicit-feedback factorisation by the library ``implicit``.

    Source: Hu, Koren and Volinsky, ICDM 2008.

    Args:
        log: consumed items, sorted by user and time.
        items: number of items.
        users: number of users.
        factors: width of the factors.
        confidence: [E] weight of a row (liked items have more).
        threads: worker threads; results do not depend on it.
        seed: seed of the initial factors.
        depth: number of latest history items to fold in.

    Raises:
        MissingExtraError: ``implicit`` is not installed (or remove the channel from ``quotas``).
    """

    def __init__(
        self,
        log: Events,
        items: int,
        users: int,
        *,
        factors: int,
        confidence: NDArray[np.float32],
        threads: int,
        seed: int,
        depth: int = 50,
    ) -> None:
        super().__init__(confidence, depth)
        self._log = log
        self._model: Any = least_squares(
            "factorisation retrieval (option quotas: leave 'factorisation' out to go without)",
            factors=factors,
            iterations=3,  # few, because a refit starts from the previous factors
            threads=threads,
            seed=seed,
        )
        # Initial values of the first rows do not change when items or users are added.
        self._item_start = _start(items, factors, seed)
        self._user_start = _start(users, factors, seed + 1)
        self._learned = np.zeros(users, np.int64)  # rows per user

    def __getstate__(self) -> dict[str, Any]:
        """State for scoring alone: the items' factors."""
        none = np.zeros((0, 0), np.float32)
        left_out = {"_item_start": none, "_user_start": none, "_learned": self._learned[:0]}
        return {**self.__dict__, **left_out, "_model": None}

    def advance(self, new_rows: Longs, items: int, users: int) -> None:
        """Refit on all rows so far, starting from the previous factors; see `RetrievalChannel`."""
        matrix = self._matrix(new_rows, items, users)
        model = self._model
        model.item_factors = _grow(model.item_factors, self._item_start, items)
        model.user_factors = _grow(model.user_factors, self._user_start, users)
        model.fit(matrix, show_progress=False)
        self.factors = ItemFactors(np.array(model.item_factors))

    def _matrix(self, new_rows: Longs, items: int, users: int) -> Any:
        """Confidences of all rows so far: sparse [users, items].

        The rows that a user has had so far are the first ones of all that the log has of the user.
        """
        log = self._log
        self._learned += np.bincount(log.user[new_rows], minlength=len(self._learned))
        lengths = self._learned[:users]
        ends = np.cumsum(lengths)
        data, columns = np.empty(ends[-1], np.float32), np.empty(ends[-1], np.int32)
        for part in _runs_of_users(ends):
            rows = ragged_ranges(log.user_start[:-1][part], lengths[part])
            to = slice(int(ends[part.start] - lengths[part.start]), int(ends[part.stop - 1]))
            data[to], columns[to] = self._confidence[rows], log.item[rows]
        rows_end = np.append(0, ends).astype(np.int32 if ends[-1] < 2**31 else np.int64)
        matrix = load_sparse().csr_matrix((data, columns, rows_end), shape=(users, items))
        matrix.sum_duplicates()
        return matrix


def _start(rows: int, factors: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.random((rows, factors), dtype=np.float32) * np.float32(0.01)


def _grow(
    old: NDArray[np.float32] | None, start: NDArray[np.float32], rows: int
) -> NDArray[np.float32]:
    if old is None:
        return start[:rows].copy()
    return np.ascontiguousarray(np.concatenate([old, start[len(old) : rows]]))


def _runs_of_users(ends: Longs) -> Iterator[slice]:
    """Consecutive users with about a chunk of rows; `ends` [U] are the ends of their rows."""
    cuts = np.searchsorted(ends, np.arange(_ROWS, ends[-1], _ROWS))
    bounds = np.unique([0, *(cuts + 1), len(ends)])
    for start, stop in pairwise(bounds[bounds <= len(ends)]):
        yield slice(int(start), int(stop))


def least_squares(
    feature: str, *, factors: int, iterations: int, seed: int, threads: int = 0
) -> Any:
    """Make the library's unfitted model, with the settings shared by all fits of goalrank.

    Args:
        feature: feature that needs the library, named in the error.
        factors: width of the factors.
        iterations: rounds of alternating least squares.
        seed: seed of the initial factors.
        threads: worker threads; 0 uses all cores.

    Raises:
        MissingExtraError: ``implicit`` is not installed.
    """
    try:
        from implicit.cpu.als import AlternatingLeastSquares
    except ImportError:
        raise MissingExtraError(feature, "retrieval") from None
    return AlternatingLeastSquares(
        factors=factors,
        regularization=RIDGE,
        alpha=ALPHA,
        iterations=iterations,
        num_threads=threads,
        random_state=seed,
    )
