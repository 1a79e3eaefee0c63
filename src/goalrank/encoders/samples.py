"""Samples of requests, and their labelled candidates, for what is solved on a table of candidates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from goalrank.requests import EncodedRequests


def sample_within(
    train: EncodedRequests, most: int, seed: int, held: int | None = None
) -> NDArray[np.int64]:
    """Rows of requests that hold about `most` candidates, ascending; all of them if they hold fewer.

    Args:
        train: encoded requests.
        most: candidates, or what `held` counts.
        seed: of the draw.
        held: how many all requests hold; None counts their candidates.
    """
    held = int(train.candidate_start[-1]) if held is None else held
    count, share = len(train), most / max(held, 1)
    if share >= 1:
        return np.arange(count)
    rng = np.random.default_rng(seed)
    chosen: NDArray[np.int64] = rng.choice(count, max(int(count * share), 1), replace=False)
    return np.sort(chosen)


def shown_rows(columns: EncodedRequests) -> NDArray[np.int64]:
    """Rows of the shown candidates among all, in the order of the log."""
    start = np.repeat(columns.candidate_start[:-1], np.diff(columns.shown_start))
    rows: NDArray[np.int64] = (start + columns.shown)[columns.shown >= 0]
    return rows


def with_order(
    columns: EncodedRequests, label: NDArray[np.int32] | NDArray[np.bool_], owner: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Candidates with known feedback of the requests that have liked and other ones: [C].

    Args:
        columns: encoded requests.
        label: [C] above 0 where a candidate is liked.
        owner: [C] number of each candidate's request.
    """
    known = np.ones(len(label), np.bool_)
    if columns.protocol == "exposed":
        known[:] = False
        known[shown_rows(columns)] = True
    liked = np.bincount(owner[known & (label > 0)], minlength=len(columns)) > 0
    other = np.bincount(owner[known & (label == 0)], minlength=len(columns)) > 0
    return known & (liked & other)[owner]
