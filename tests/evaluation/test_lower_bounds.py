"""Lower bounds hold where bootstrap intervals do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.errors import DataError
from goalrank.evaluation import Logged, Resampler, lower_bounds
from goalrank.evaluation.statistics.lower_bounds import betting_lower_bound, user_lower_bound


@pytest.mark.parametrize("rate", [0.005, 0.05, 0.5])
def test_the_bound_is_below_the_mean_in_95_of_100_samples(rate):
    rng = np.random.default_rng(0)
    bounds = [
        betting_lower_bound((rng.random(400) < rate).astype(float), 0.0, 1.0, alpha=0.05, seed=i)
        for i in range(400)
    ]
    assert np.mean(np.array(bounds) > rate) <= 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5


def test_it_is_no_empty_promise():
    x = (np.random.default_rng(1).random(2000) < 0.3).astype(float)
    bound = betting_lower_bound(x, 0.0, 1.0, alpha=0.05, seed=0)
    assert x.mean() - 0.05 < bound < x.mean()
    assert betting_lower_bound(np.full(50, 0.5), 0.0, 1.0, alpha=0.05, seed=0) > 0.3


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(-3, 3))
def test_it_moves_with_scale_and_shift(seed, scale, shift):
    x = np.random.default_rng(seed).random(60)
    plain = betting_lower_bound(x, 0.0, 1.0, alpha=0.1, seed=3)
    ends = (shift, scale + shift + 1e-9)
    moved = betting_lower_bound(scale * x + shift, *ends, alpha=0.1, seed=3)
    assert moved == pytest.approx(scale * plain + shift, abs=1e-4)


def test_users_are_the_witnesses():
    x = np.tile([1.0, 0.0], 200)
    alone = user_lower_bound(x, np.arange(400), 0.0, 1.0, alpha=0.05, seed=0)
    one = user_lower_bound(np.sort(x), np.arange(400) // 100, 0.0, 1.0, alpha=0.05, seed=0)
    assert alone > 0.35
    assert one < 0.1


def test_a_range_that_values_leave():
    with pytest.raises(DataError, match=r"lie outside \[0, 1\]"):
        betting_lower_bound(np.array([0.2, 1.5]), 0.0, 1.0, alpha=0.05, seed=0)
    assert betting_lower_bound(np.array([]), -1.0, 1.0, alpha=0.05, seed=0) == -1.0


def test_rewards_without_a_known_range_have_no_bound():
    resampler = Resampler(np.arange(50), 10, 0)
    reward = np.linspace(0, 1, 50)
    logged = Logged(reward, np.zeros(50), np.zeros(50))
    assert lower_bounds(logged, resampler, cap=10, most=1.0) is not None
    assert lower_bounds(logged, resampler, cap=10, most=0.5) is None
    below = Logged(reward - 0.5, np.zeros(50), np.zeros(50))
    assert lower_bounds(below, resampler, cap=10, most=1.0) is None
