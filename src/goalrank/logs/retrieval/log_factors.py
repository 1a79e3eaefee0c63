"""Factors of a whole log at once, for users and items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Longs
from goalrank.logs.retrieval.factorisation import least_squares
from goalrank.logs.retrieval.refit_scoring import one_blas_thread
from goalrank.logs.retrieval.sparse import load_sparse

__all__ = ["fit_factors"]

Floats = NDArray[np.float32]


def fit_factors(
    user: Longs, item: Longs, *, width: int = 16, iterations: int = 15, seed: int = 0
) -> tuple[Floats, Floats]:
    """Factorise a log by implicit-feedback ALS with the library ``implicit``.

    Source: Hu, Koren and Volinsky, ICDM 2008. Unlike `Factorisation`, which learns a log as it
    grows, this uses the whole log.

    Args:
        user: [E] user numbers from 0.
        item: [E] numbers from 0 of the items they consumed; a repeated pair has more weight.
        width: D.
        iterations: rounds of alternating least squares.
        seed: seed of the initial factors.

    Returns:
        Users [U, D] and items [I, D]; inner products are near 1 where consumed, near 0 elsewhere.

    Raises:
        MissingExtraError: ``implicit`` or SciPy is not installed.
    """
    with one_blas_thread():
        model = least_squares(
            "fitting factors to a log", factors=width, iterations=iterations, seed=seed
        )
        once = np.ones(len(user), np.float32)
        matrix = load_sparse().csr_matrix(
            (once, (user, item)), shape=(user.max() + 1, item.max() + 1)
        )
        model.fit(matrix, show_progress=False)
    return np.asarray(model.user_factors), np.asarray(model.item_factors)
