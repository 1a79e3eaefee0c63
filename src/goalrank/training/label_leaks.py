"""Candidate features that tell the answer: known only after a list was shown, or made from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from goalrank.encoders import sample_within, shown_rows, with_order
from goalrank.requests import EncodedRequests

_CANDIDATES = 200_000  # looked at per table
_SUSPICIOUS = 0.99  # AUC
_LEAST_REQUESTS = 20  # with a positive and another candidate; fewer agree by chance


def label_leaks(
    names: Sequence[str], train: EncodedRequests, validation: EncodedRequests | None = None
) -> list[str]:
    """Say which candidate features tell positives from the rest nearly without a fault.

    AUC is the share of the pairs of a positive and another candidate of the same request that a
    feature orders right, ties counting half; candidates without known relevance are left out.
    At 0.99 or above, or 0.01 or below, on training a sentence names the feature. Nothing else
    changes.

    Args:
        names: of the candidate features; features without a name are called f0, f1, …
        train: training requests.
        validation: told beside them; None or few requests for none.
    """
    found = {name: auc for name, auc in _aucs(names, train).items() if _is_suspicious(auc)}
    held = _aucs(names, validation) if found and validation is not None else {}
    return [_sentence(name, auc, held.get(name)) for name, auc in found.items()]


def _is_suspicious(auc: float) -> bool:
    return max(auc, 1 - auc) >= _SUSPICIOUS


def _sentence(name: str, auc: float, held: float | None) -> str:
    told = f"'{name}' tells positives from the rest within a request: AUC {auc:.3f} on training"
    if held is not None:
        told += f", {held:.3f} on validation"
    why = "it looks like the feedback itself, which nobody knows before a list is shown"
    if held is not None and not _is_suspicious(held):
        why = "it looks as if it was made from the feedback of the training requests"
    return f"label leak? {told}; {why}; remedy: leave it out, or make it from earlier rows only"


def _aucs(names: Sequence[str], columns: EncodedRequests) -> dict[str, float]:
    """Name → AUC; nothing where too few requests have both a positive and another candidate."""
    if columns.target < 0:
        return {}
    columns = columns.take(sample_within(columns, _CANDIDATES, seed=0))
    request = np.repeat(np.arange(len(columns)), np.diff(columns.candidate_start))
    positive = _positive(columns)
    rows = with_order(columns, positive, request)
    size, share = (np.bincount(request[rows], each) for each in (None, positive[rows]))
    if np.count_nonzero(size) < _LEAST_REQUESTS:
        return {}
    pairs = float((share * (size - share)).sum())
    features = {"candidate_score": columns.candidate_score} | {
        names[i] if i < len(names) else f"f{i}": values
        for i, values in enumerate(columns.own_features.T)
    }
    return {
        name: _wins(request[rows], values[rows], positive[rows]) / pairs
        for name, values in features.items()
    }


def _positive(columns: EncodedRequests) -> NDArray[np.bool_]:
    """[C] whether a candidate has positive feedback."""
    positive = np.zeros(len(columns.candidates), np.bool_)
    positive[shown_rows(columns)] = columns.feedback[columns.shown >= 0, columns.target] > 0
    return positive


def _wins(
    request: NDArray[np.int64], values: NDArray[np.float32], positive: NDArray[np.bool_]
) -> float:
    """Pairs of a positive and a lower other candidate of its request, ties counting half."""
    order = np.lexsort((values, request))
    request, values, positive = request[order], values[order], positive[order]
    first = np.r_[True, request[1:] != request[:-1]]
    tied = np.cumsum(first | np.r_[True, values[1:] != values[:-1]]) - 1
    below: NDArray[np.int64] = np.cumsum(~positive) - ~positive  # others before, of all requests
    below = below - below[first][np.cumsum(first) - 1]
    start = np.flatnonzero(np.r_[True, tied[1:] != tied[:-1]])
    others = np.bincount(tied, ~positive)
    return float((positive * (below[start][tied] + 0.5 * others[tied])).sum())
