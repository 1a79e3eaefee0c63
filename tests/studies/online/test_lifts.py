"""Intervals by users: they cover, the pre-period narrows them, and another library agrees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.errors import DataError
from goalrank.studies.online import Estimate, UserSums, compare, over_seeds, size_p_value


def arm(rng: np.random.Generator, users: int, rate: float, *, before: bool = True) -> UserSums:
    """Users of differing zeal and numbers of requests, with the same zeal before."""
    zeal = rng.gamma(4.0, 0.25, users)
    now, then = rng.integers(1, 8, users), rng.integers(0, 8, users)
    past = (rng.poisson(then * zeal).astype(float), then.astype(float)) if before else (None, None)
    return UserSums(rng.poisson(now * rate * zeal).astype(float), now.astype(float), *past)


def test_intervals_cover_and_cuped_narrows():
    rng = np.random.default_rng(0)
    hits, width, plain = 0, 0.0, 0.0
    for _ in range(400):
        a, b = arm(rng, 150, 2.0), arm(rng, 150, 2.2)
        lift = compare(a, b)
        bare = compare(UserSums(a.value, a.requests), UserSums(b.value, b.requests))
        assert lift.cuped
        assert not bare.cuped
        hits += lift.relative.low <= 0.1 <= lift.relative.high
        width += lift.relative.high - lift.relative.low
        plain += bare.relative.high - bare.relative.low
    assert 0.91 < hits / 400 < 0.985
    assert width < 0.9 * plain


def test_requests_of_a_user_are_not_independent():
    """Ten times the same answers of a user are no news: the interval must not shrink."""
    rng = np.random.default_rng(1)
    a, b = (arm(rng, 300, 2.0, before=False) for _ in range(2))
    once = compare(a, b).absolute
    ten = compare(
        UserSums(10 * a.value, 10 * a.requests), UserSums(10 * b.value, 10 * b.requests)
    ).absolute
    assert ten.high - ten.low == pytest.approx(once.high - once.low)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 4.0))
def test_an_arm_against_itself_lifts_nothing(seed, scale):
    same = arm(np.random.default_rng(seed), 50, 1.0)
    lift = compare(same, same)
    assert lift.absolute.value == pytest.approx(0.0, abs=1e-12)
    assert lift.relative.low < 0.0 < lift.relative.high
    more = UserSums(scale * same.value, same.requests)
    bare = UserSums(same.value, same.requests)
    assert compare(bare, more).relative.value == pytest.approx(scale - 1)


@pytest.mark.parametrize("before", [False, True])
def test_agrees_with_tea_tasting(before):
    tt = pytest.importorskip("tea_tasting")
    import polars as pl

    rng = np.random.default_rng(3)
    a, b = (arm(rng, 2000, rate, before=before) for rate in (1.0, 1.1))
    columns = {
        name: np.concatenate([getattr(a, name), getattr(b, name)])
        for name in ("value", "requests", *(("before", "before_requests") if before else ()))
    }
    data = pl.DataFrame({"variant": [0] * 2000 + [1] * 2000, **columns})
    covariates = ("before", "before_requests") if before else (None, None)
    metric = tt.RatioOfMeans("value", "requests", *covariates)
    theirs = tt.Experiment({"m": metric}).analyze(data.to_arrow())["m"]
    ours = compare(a, b)
    assert ours.absolute.value == pytest.approx(theirs.effect_size, abs=2e-3)
    assert ours.absolute.low == pytest.approx(theirs.effect_size_ci_lower, abs=2e-3)
    assert ours.relative.value == pytest.approx(theirs.rel_effect_size, abs=2e-3)
    assert ours.relative.low == pytest.approx(theirs.rel_effect_size_ci_lower, abs=4e-3)


def test_over_seeds_is_the_mean_with_the_spread_of_the_seeds():
    """Two values 2 apart: deviation √2, error of the mean 1, t(0.975, 1) = 12.706."""
    each = [Estimate(1.0, 0.04, 0.0, 0.0), Estimate(3.0, 0.12, 0.0, 0.0)]
    both = over_seeds(each)
    assert both.value == 2.0
    assert both.variance == pytest.approx(1.0)
    assert both.high - both.value == pytest.approx(12.706, rel=1e-4)


def test_one_seed_has_the_interval_of_its_users():
    one = over_seeds([Estimate(1.0, 0.04, 0.0, 0.0)])
    assert one.high - one.value == pytest.approx(1.96 * 0.2, rel=1e-3)


def test_an_interval_is_never_narrower_than_users_alone_make_it():
    """Seeds that agree by chance: variance (4 + 2) / 2 per seed, t(0.975, 1) = 12.706."""
    both = over_seeds([Estimate(1.0, 4.0, 0.0, 0.0), Estimate(1.0, 2.0, 0.0, 0.0)])
    assert both.high - both.value == pytest.approx(12.706 * np.sqrt(3 / 2), rel=1e-4)


@pytest.mark.parametrize(("between", "least"), [(0.0, 0.0), (1.0, 0.0), (100.0, 0.035)])
def test_intervals_over_three_seeds_cover_whatever_the_spread_of_the_seeds(between, least):
    """2,000 tests without a lift; the variance between seeds is 0, 1 or 100 times that of users."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, np.sqrt(1 + between), (2000, 3))
    found = [over_seeds([Estimate(v, 1.0, 0.0, 0.0) for v in row]) for row in values]
    assert least <= np.mean([e.low > 0 or e.high < 0 for e in found]) <= 0.065


def test_sizes_ring_when_the_split_is_broken():
    assert size_p_value([500, 500, 510], [1, 1, 1]) > 0.5
    # Two degrees of freedom: the tail of 12.5 is exp(-12.5 / 2).
    assert size_p_value([500, 500, 600], [1, 1, 1]) == pytest.approx(np.exp(-6.25))
    assert size_p_value([1000, 500], [2, 1]) == pytest.approx(1.0)


def test_too_few_users_are_refused():
    one = UserSums(np.ones(1), np.ones(1))
    with pytest.raises(DataError, match="users"):
        compare(one, one)
    nothing = UserSums(np.zeros(5), np.ones(5))
    with pytest.raises(DataError, match="relative"):
        compare(nothing, nothing)
