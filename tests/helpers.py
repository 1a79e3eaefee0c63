"""Small encoded data for tests, made directly from numpy: no table, no files."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from goalrank.requests import EncodedRequests
from goalrank.testing import make_entities
from goalrank.testing import make_requests as make_columns

__all__ = ["make_columns", "make_entities", "planted_choices"]


def planted_choices(weights: list[float], requests: int = 3000, seed: int = 0) -> EncodedRequests:
    """Requests of 8 shown candidates, of which one is drawn by softmax(features · weights)."""
    columns = make_columns(requests, 8, shown=8, features=len(weights), seed=seed)
    rng = np.random.default_rng(seed + 1)
    score = columns.candidate_features @ np.array(weights)
    score = score + rng.gumbel(size=len(score))
    start = columns.candidate_start
    best = np.array([score[a:b].argmax() for a, b in pairwise(start)])
    return replace(
        columns,
        shown_start=np.arange(requests + 1),
        shown=best.astype(np.int32),
        feedback=np.ones((requests, 1), np.float32),
        candidate_score=np.zeros_like(columns.candidate_score),
    )
