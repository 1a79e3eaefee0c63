"""Corrections and tests against second implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from goalrank.errors import DataError
from goalrank.evaluation import holm, over_seeds_and_users
from goalrank.evaluation.statistics.student import t_quantile, t_tail


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


@given(st.floats(-20, 20), st.floats(1, 30))
def test_student_is_scipys(t, degrees):
    assert t_tail(t, 1.0, degrees) == pytest.approx(2 * stats.t.sf(abs(t), degrees), abs=1e-9)
    assert float(t_quantile(0.975, degrees)) == pytest.approx(stats.t.ppf(0.975, degrees))


def plain_variances(gap: np.ndarray, users: np.ndarray) -> tuple[float, float, float]:
    """Of seeds, users and their interaction, with loops: each user left out once."""
    seeds, whole = len(gap), gap.mean()
    by_seed = [row.mean() for row in gap]
    names = sorted(set(users.tolist()))
    keep = [users != name for name in names]
    left = np.array([[row[use].mean() for use in keep] for row in gap])  # [S, U]
    scale = (len(names) - 1) / len(names)
    of_users = scale * ((left.mean(0) - whole) ** 2).sum()
    rest = left - np.array(by_seed)[:, None] - (left.mean(0) - whole)
    of_both = scale * (rest**2).sum() / (seeds * (seeds - 1))
    return float(np.var(by_seed, ddof=1) / seeds), float(of_users), float(of_both)


@given(st.integers(0, 1000), st.integers(2, 5))
def test_two_variances_are_those_of_a_plain_second_implementation(seed, seeds):
    rng = np.random.default_rng(seed)
    users = rng.integers(0, 9, 60)
    a, b = rng.normal(size=(2, seeds, 60)) + rng.normal(size=9)[users]
    b += 0.3 * rng.normal(size=(seeds, 1))
    found = over_seeds_and_users(a, b, users)
    of_seeds, of_users, of_both = plain_variances(a - b, users)
    own = max(of_users - of_both, 0.0)
    assert found.mean == pytest.approx((a - b).mean())
    assert found.seed_error**2 == pytest.approx(of_seeds)
    assert found.user_error**2 == pytest.approx(own, abs=1e-12)
    error, users_seen = np.sqrt(of_seeds + own), len(set(users.tolist()))
    degrees = (of_seeds + own) ** 2 / (of_seeds**2 / (seeds - 1) + own**2 / (users_seen - 1))
    assert found.degrees == pytest.approx(degrees)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(found.mean) / error, degrees))
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, degrees) * error)


def test_of_one_seed_it_is_a_t_test_over_users():
    rng = np.random.default_rng(0)
    gap = rng.normal(0.3, 1.0, size=(1, 40))
    found = over_seeds_and_users(gap, np.zeros_like(gap), np.arange(40))
    assert found.p == pytest.approx(stats.ttest_1samp(gap[0], 0).pvalue)
    assert found.seeds == 1
    assert math.isnan(found.seed_error)


def test_of_seeds_alone_it_is_the_paired_t_test():
    """Where every user answers alike, users say nothing that seeds do not."""
    d = np.array([0.3, 0.1, 0.4, -0.05, 0.2])
    gap = np.repeat(d[:, None], 30, axis=1)
    found = over_seeds_and_users(gap, np.zeros_like(gap), np.arange(30))
    assert found.p == pytest.approx(stats.ttest_1samp(d, 0).pvalue)


def test_a_planted_difference_has_a_p_without_floor():
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(100), 4)
    b = rng.normal(size=(5, 400))
    found = over_seeds_and_users(b + 0.3 + 0.02 * rng.normal(size=b.shape), b, users)
    assert found.low > 0.2
    assert found.p * 31 < 1e-4  # 5,000 resamples and 31 rows could not print less than 0.012
    assert over_seeds_and_users(b, b, users).p == 1.0


def test_one_user_with_many_requests_is_one_witness():
    """A gain of one user in 300 requests is no evidence."""
    users = np.concatenate([np.zeros(300, int), np.arange(1, 41)])
    gain = np.where(users == 0, 0.5, 0.0)[None]
    assert over_seeds_and_users(gain, np.zeros_like(gain), users).p > 0.05
    alone = over_seeds_and_users(np.ones((3, 5)), np.zeros((3, 5)), np.zeros(5, int))
    assert (alone.low, alone.high, alone.p) == (-math.inf, math.inf, 1.0)


def test_another_seed_that_gives_another_model_widens_the_interval():
    """Copies whose seeds differ by more than users do are not told apart by many requests."""
    rng = np.random.default_rng(3)
    users = np.repeat(np.arange(500), 4)
    gap = np.array([0.5, -0.2, 0.3])[:, None] + 0.1 * rng.normal(size=(3, 2000))
    found = over_seeds_and_users(gap, np.zeros_like(gap), users)
    assert found.p > 0.05
    assert found.seed_error > 10 * found.user_error


def test_shapes_that_do_not_fit():
    with pytest.raises(DataError, match=r"\[S, R\]"):
        over_seeds_and_users(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(2, int))


def test_a_difference_of_rounding_is_none():
    """The same lists, measured in two ways: every request differs by the same last digit."""
    a = np.repeat(np.random.default_rng(0).random((1, 400)), 3, 0)
    found = over_seeds_and_users(a * (1 + 1e-15) + 1e-15, a, np.arange(400) // 4)
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)
