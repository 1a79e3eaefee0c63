"""Intervals against theory and a plain second implementation."""

from __future__ import annotations

import numpy as np
import pytest

from goalrank.evaluation import Resampler
from goalrank.evaluation.statistics import bootstrap as module


def resampler(n: int, clusters=None, resamples: int = 400, seed: int = 0) -> Resampler:
    return Resampler(np.arange(n) if clusters is None else clusters, resamples, seed)


def test_interval_matches_the_normal_one_for_independent_values():
    x = np.random.default_rng(0).normal(2.0, 3.0, 900)
    (interval,) = resampler(900, resamples=2000).intervals(x[:, None])
    half = 1.96 * x.std() / 30
    assert interval.mean == pytest.approx(x.mean())
    assert interval.low == pytest.approx(x.mean() - half, abs=0.03)
    assert interval.high == pytest.approx(x.mean() + half, abs=0.03)


def test_equals_a_plain_bootstrap():
    x = np.random.default_rng(1).normal(size=50)
    rng = np.random.default_rng(7)
    plain = [x[rng.integers(0, 50, 50)].mean() for _ in range(200)]
    np.testing.assert_allclose(resampler(50, resamples=200, seed=7).means(x[:, None])[:, 0], plain)


def test_chunks_change_nothing(monkeypatch):
    x = np.random.default_rng(1).normal(size=(50, 2))
    whole = resampler(50).means(x)
    monkeypatch.setattr(module, "_CHUNK_CELLS", 170)
    np.testing.assert_allclose(resampler(50).means(x), whole)


def test_users_that_repeat_widen_the_interval():
    rng = np.random.default_rng(2)
    users = np.repeat(np.arange(100), 10)
    x = rng.normal(size=100)[users]  # each user's requests agree: 100 facts, not 1000
    (by_user,) = resampler(1000, users).intervals(x[:, None])
    (by_request,) = resampler(1000).intervals(x[:, None])
    ratio = (by_user.high - by_user.low) / (by_request.high - by_request.low)
    assert ratio == pytest.approx(np.sqrt(10), rel=0.2)


def test_paired_difference_sees_what_separate_intervals_cannot():
    rng = np.random.default_rng(3)
    base = rng.normal(size=500)
    a, b = base + 0.05 + rng.normal(0, 0.1, 500), base
    gap = resampler(500).difference(a, b)
    assert gap.low > 0
    assert gap.p < 0.01
    separate = resampler(500).intervals(np.stack([a, b], 1))
    assert separate[0].low < separate[1].high
    assert resampler(500).difference(b, b).p == 1.0


def test_p_is_uniform_under_no_difference():
    rng = np.random.default_rng(4)
    ps = [
        resampler(80, resamples=200, seed=i).difference(*rng.normal(size=(2, 80))).p
        for i in range(150)
    ]
    assert 0.35 < np.mean(np.array(ps) < 0.5) < 0.65


def test_nan_entries_take_no_part():
    x = np.array([1.0, np.nan, 3.0])
    (interval,) = resampler(3).intervals(x[:, None])
    assert interval.mean == 2.0
    assert 1.0 <= interval.low <= interval.high <= 3.0
    (none,) = resampler(3).intervals(np.full((3, 1), np.nan))
    assert np.isnan([none.mean, none.low, none.high]).all()
