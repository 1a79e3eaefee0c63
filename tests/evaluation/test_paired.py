"""Corrections and tests against second implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalrank.evaluation import holm, over_requests, paired_t, t_tail


def plain_holm(p: list[float]) -> list[float]:
    """By the definition: the smallest level at which Holm's procedure rejects each hypothesis."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    out = [0.0] * len(p)
    for place, i in enumerate(order):
        out[i] = min(1.0, max((len(p) - j) * p[order[j]] for j in range(place + 1)))
    return out


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_the_procedure(p):
    assert holm(p) == pytest.approx(plain_holm(p))


def test_holm_by_hand_and_with_gaps():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    adjusted = holm([0.01, math.nan, 0.02])
    assert adjusted[0] == pytest.approx(0.02)
    assert math.isnan(adjusted[1])


@given(st.floats(-20, 20), st.integers(1, 30))
def test_t_tail_is_scipys(t, df):
    stats = pytest.importorskip("scipy.stats")
    assert t_tail(t, df) == pytest.approx(2 * stats.t.sf(abs(t), df), abs=1e-9)


def test_paired_t_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    d = [0.3, 0.1, 0.4, -0.05, 0.2]
    assert paired_t(d) == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    assert math.isnan(paired_t([0.1]))


def test_bootstrap_sees_a_planted_difference_and_none_where_there_is_none():
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(100), 4)
    b = rng.normal(size=(3, 400))
    found = over_requests(b + 0.3 + 0.2 * rng.normal(size=b.shape), b, users, 500)
    assert found.low > 0.2
    assert found.p < 0.01
    assert over_requests(b, b, users, 500).p == 1.0


def test_one_user_with_many_requests_is_one_witness():
    """A gain of one user in 300 requests is no evidence: whole users are drawn."""
    users = np.concatenate([np.zeros(300, int), np.arange(1, 41)])
    gain = np.where(users == 0, 0.5, 0.0)[None]
    assert over_requests(gain, np.zeros_like(gain), users, 500).p > 0.05
