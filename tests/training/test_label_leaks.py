"""Candidate features that tell the answer are named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from goalrank.encoders import shown_rows
from goalrank.requests import EncodedRequests
from goalrank.testing import make_requests
from goalrank.training import label_leaks
from goalrank.training.label_leaks import _aucs, _positive

NAMES = ("price", "rate")


def with_feature(columns: EncodedRequests, values: NDArray[np.float64]) -> EncodedRequests:
    features = columns.candidate_features.copy()
    features[:, 1] = values
    return replace(columns, candidate_features=features)


def clicked(columns: EncodedRequests) -> NDArray[np.float64]:
    """[C] the feedback itself."""
    out = np.zeros(len(columns.candidates))
    for r in range(len(columns)):
        for i in range(columns.shown_start[r], columns.shown_start[r + 1]):
            out[columns.candidate_start[r] + columns.shown[i]] = columns.feedback[i, 0]
    return out


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("protocol", ["retrieved", "exposed"])
def test_the_label_among_the_features_is_named(sign: int, protocol: str) -> None:
    columns = make_requests(200, 8, protocol=protocol)
    leaky = with_feature(columns, sign * clicked(columns))
    (found,) = label_leaks(NAMES, leaky, leaky)
    auc = "1.000" if sign == 1 else "0.000"
    assert f"'rate' tells positives from the rest within a request: AUC {auc} on training" in found
    assert f"{auc} on validation; it looks like the feedback itself" in found


def test_a_feature_made_from_the_answers_of_training_is_named_as_such() -> None:
    train, held = make_requests(200, 8), make_requests(200, 8, seed=1)
    (found,) = label_leaks(NAMES, with_feature(train, clicked(train)), held)
    assert "made from the feedback of the training requests" in found


def test_honest_features_and_few_requests_raise_no_suspicion() -> None:
    columns = make_requests(200, 8)
    assert label_leaks(NAMES, columns, columns) == []
    few = make_requests(15, 8)
    assert label_leaks(NAMES, with_feature(few, clicked(few))) == []
    without = replace(columns, target=-1)
    assert label_leaks(NAMES, with_feature(without, clicked(columns))) == []


def test_features_without_names_are_called_by_their_number() -> None:
    columns = make_requests(200, 8)
    (found,) = label_leaks((), with_feature(columns, clicked(columns)))
    assert "'f1' tells" in found


@given(st.integers(0, 10**6), st.sampled_from(["retrieved", "exposed"]), st.booleans())
def test_auc_equals_the_u_statistic_of_scipy_request_by_request(
    seed: int, protocol: str, rounded: bool
) -> None:
    columns = make_requests(150, 8, protocol=protocol, seed=seed)
    if rounded:  # many ties
        columns = replace(columns, candidate_features=columns.candidate_features.round())
    positive = _positive(columns)
    known = np.full(len(positive), protocol == "retrieved")
    known[shown_rows(columns)] = True
    assert positive.sum() == (clicked(columns) > 0).sum()
    wins, pairs = 0.0, 0
    for start, end in zip(columns.candidate_start, columns.candidate_start[1:]):
        rows = np.arange(start, end)[known[start:end]]
        values, yes = columns.candidate_features[rows, 0], positive[rows]
        if yes.any() and not yes.all():
            wins += mannwhitneyu(values[yes], values[~yes]).statistic
            pairs += yes.sum() * (~yes).sum()
    found = _aucs(NAMES, columns)
    assert found["price"] == pytest.approx(wins / pairs)
