"""Empty values of candidates: filled with means of the training requests alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from goalrank.errors import DataError
from goalrank.logs.candidates.pending import PendingRequests

__all__ = ["with_training_means"]

Floats = NDArray[np.float32]


def with_training_means(
    pending: PendingRequests, train: NDArray[np.bool_], dataset: str
) -> PendingRequests:
    """Fill empty scores and features with their means, so that nothing looks ahead.

    Args:
        pending: B requests; empty values are NaN.
        train: [B] the training requests, the only ones that means are taken of.
        dataset: named in errors.

    Raises:
        DataError: a feature or the score has empty values and none in the training requests.
    """
    real = pending.candidates >= 0
    score, features = pending.score, pending.features
    if score is not None:
        score = _filled(score, real, train, f"{dataset}: candidate_score")
    features = {
        name: _filled(values, real, train, f"{dataset}: {name}")
        for name, values in features.items()
    }
    return replace(pending, score=score, features=features)


def _filled(
    values: Floats, real: NDArray[np.bool_], train: NDArray[np.bool_], where: str
) -> Floats:
    empty = np.isnan(values) & real
    if not empty.any():
        return values
    known = values[train][(real & ~empty)[train]]
    if not len(known):
        raise DataError(
            f"{where} is empty in all {int(train.sum()):,} training requests, so that nothing can "
            f"stand in for its {int(empty.sum()):,} empty values; remedy: leave the column out, or "
            f"fill it (options: candidate_features, columns)"
        )
    return np.where(empty, np.float32(known.mean(dtype=np.float64)), values)
