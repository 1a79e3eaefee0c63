"""Student's t over few users, against plain second implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from goalrank.errors import ConfigError
from goalrank.evaluation import LeaveOneOut, Resampler, estimate, resample
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


def test_where_the_bootstrap_begins():
    assert type(resample(np.arange(29), "user", 10, 0)) is LeaveOneOut
    assert type(resample(np.arange(30), "user", 10, 0)) is Resampler
    assert type(resample(np.zeros(40), "request", 10, 0)) is Resampler
    assert type(resample(np.zeros(29), "request", 10, 0)) is LeaveOneOut
    with pytest.raises(ConfigError, match="'user' or 'request'"):
        resample(np.arange(30), "session", 10, 0)
