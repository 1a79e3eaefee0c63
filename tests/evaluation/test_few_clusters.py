"""Student's t over few users, against plain second implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from goalrank.errors import ConfigError
from goalrank.evaluation import LeaveOneOut, Resampler, estimate, over_seeds_and_users, resample
from goalrank.evaluation.off_policy.estimators import Logged


def few(users: np.ndarray) -> LeaveOneOut:
    found = resample(users, "user", 1000, 0)
    assert isinstance(found, LeaveOneOut)
    return found


def test_users_of_one_request_each_give_the_t_test():
    x = np.random.default_rng(0).normal(0.4, 1.0, 12)
    found = few(np.arange(12)).difference(x, np.zeros(12))
    assert found.p == pytest.approx(stats.ttest_1samp(x, 0).pvalue)
    low, high = stats.t.interval(0.95, 11, x.mean(), x.std(ddof=1) / math.sqrt(12))
    assert [found.low, found.high] == pytest.approx([low, high])


def test_it_is_the_jackknife_over_users_of_any_size():
    rng = np.random.default_rng(1)
    users = rng.integers(0, 7, 50)
    x = rng.normal(size=(50, 2))
    left = np.array([x[users != u].mean(0) for u in range(7)])
    error = np.sqrt(6 / 7 * ((left - x.mean(0)) ** 2).sum(0))
    for interval, mean, each in zip(few(users).intervals(x), x.mean(0), error):
        assert interval.high - mean == pytest.approx(stats.t.ppf(0.975, 6) * each)
        assert mean - interval.low == pytest.approx(stats.t.ppf(0.975, 6) * each)


def test_ratios_of_off_policy_estimates_are_jackknifed_whole():
    rng = np.random.default_rng(2)
    users, reward, target = rng.integers(0, 9, 90), rng.random(90), rng.normal(0, 0.5, 90)
    logged = Logged(reward, target, np.zeros(90))
    _, found = estimate(logged, ["snips"], few(users))

    def value(use: np.ndarray) -> float:
        return float(np.average(reward[use], weights=np.exp(target[use])))

    whole = value(users >= 0)
    left = np.array([value(users != u) for u in range(9)])
    reach = stats.t.ppf(0.975, 8) * np.sqrt(8 / 9 * ((left - whole) ** 2).sum())
    assert found["snips"].value.high - whole == pytest.approx(reach)


def test_a_user_without_values_is_no_witness():
    x = np.array([1.0, 2.0, np.nan, np.nan])
    users = np.array([0, 1, 2, 2])
    (found,) = few(users).intervals(x[:, None])
    assert found.high - 1.5 == pytest.approx(stats.t.ppf(0.975, 1) * 0.5)


def test_one_user_tells_nothing():
    found = few(np.zeros(50, int)).difference(np.ones(50), np.zeros(50))
    assert (found.low, found.high, found.p) == (-math.inf, math.inf, 1.0)
    assert few(np.zeros(50, int)).words("user") == "One user: no interval can be given"


@pytest.mark.parametrize(("users", "certain"), [(2, False), (5, False), (6, True), (20, True)])
def test_a_few_users_who_agree_are_no_proof(users, certain):
    """Student's t would give p = 0 to two users who both gained a click: a coin does so every time."""
    one, none = np.ones(users), np.zeros(users)
    crossed = over_seeds_and_users(one[None], none[None], np.arange(users))
    for found in (few(np.arange(users)).difference(one, none), crossed):
        assert found.p == pytest.approx(2.0 ** (1 - users))
        assert (found.low, found.high) == ((1, 1) if certain else (-math.inf, math.inf))
    equal = few(np.arange(users)).difference(one, one)
    assert (equal.low, equal.high, equal.p) == (0, 0, 1)


def test_few_users_with_clicks_keep_the_type_one_error():
    """Two users, whose differences are -1, 0 or 1: they agree by chance in 18 % of logs."""
    rng = np.random.default_rng(1)
    gaps = rng.choice([-1.0, 0.0, 1.0], p=[0.3, 0.4, 0.3], size=(400, 2))
    found = [few(np.arange(2)).difference(gap, np.zeros(2)) for gap in gaps]
    assert np.mean([each.low > 0 or each.high < 0 for each in found]) < 0.05


def test_where_the_bootstrap_begins():
    assert type(resample(np.arange(29), "user", 10, 0)) is LeaveOneOut
    assert type(resample(np.arange(30), "user", 10, 0)) is Resampler
    assert type(resample(np.zeros(40), "request", 10, 0)) is Resampler
    assert type(resample(np.zeros(29), "request", 10, 0)) is LeaveOneOut
    with pytest.raises(ConfigError, match="'user' or 'request'"):
        resample(np.arange(30), "session", 10, 0)
