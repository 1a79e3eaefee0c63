"""Samples of requests for what is solved on a table of candidates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from goalrank.requests import EncodedRequests


def sample_within(train: EncodedRequests, most: int, seed: int) -> NDArray[np.int64]:
    """Rows of requests that hold about `most` candidates, ascending; all of them if they hold fewer.

    Args:
        train: encoded requests.
        most: candidates.
        seed: of the draw.
    """
    count, share = len(train), most / max(int(train.candidate_start[-1]), 1)
    if share >= 1:
        return np.arange(count)
    rng = np.random.default_rng(seed)
    chosen: NDArray[np.int64] = rng.choice(count, max(int(count * share), 1), replace=False)
    return np.sort(chosen)
