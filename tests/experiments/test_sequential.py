"""Peeking: at all looks together false alarms stay below alpha, and planted lifts are found."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tea_tasting")

from goalrank.errors import ConfigError
from goalrank.experiments import ab_report, always_valid
from tests.experiments.test_analysis import EXPERIMENT, world

ALPHA = 0.05
QUANTILE = NormalDist().inv_cdf(1 - ALPHA / 2)


def looks(rng: np.random.Generator, lift: float, *, returning: bool) -> list[tuple[float, float]]:
    """ln(1 + lift) and its standard error at 40 looks at an experiment of two arms.

    Args:
        returning: a fixed crowd of users of differing zeal comes back and its sums grow;
            otherwise each look brings new users.
    """
    steps, size, crowd = 40, 100, 500
    means, errors = [], []
    for rate in (1.0, 1.0 + lift):
        if returning:
            zeal = rng.gamma(4.0, 0.25, (1, crowd))
            sums = rng.poisson(zeal * rate * 0.2, (steps, crowd)).cumsum(0)
            counts = np.full(steps, crowd)
            mean, variance = sums.mean(1), sums.var(1, ddof=1)
        else:
            values = rng.exponential(rate, steps * size)
            counts = np.arange(1, steps + 1) * size
            mean = values.cumsum()[counts - 1] / counts
            variance = (values**2).cumsum()[counts - 1] / counts - mean**2
        means.append(mean)
        errors.append(variance / counts / mean**2)
    ratio = np.log(means[1] / means[0])
    return list(zip(ratio.tolist(), np.sqrt(errors[0] + errors[1]).tolist()))


def sequence(path: list[tuple[float, float]], expected: float):
    """(always-valid, does the fixed interval exclude 0) at each look."""
    out = []
    for log_ratio, error in path:
        ends = (math.expm1(log_ratio - QUANTILE * error), math.expm1(log_ratio + QUANTILE * error))
        seen = always_valid(math.expm1(log_ratio), *ends, confidence=1 - ALPHA, expected=expected)
        out.append((seen, ends[0] > 0 or ends[1] < 0))
    return out


@pytest.mark.parametrize("returning", [False, True])
@pytest.mark.parametrize("expected", [0.02, 0.2])
def test_false_alarms_at_many_looks_stay_below_alpha(returning, expected):
    runs = 300
    rng = np.random.default_rng(11)
    rang = fixed = 0
    for _ in range(runs):
        found = sequence(looks(rng, 0.0, returning=returning), expected)
        rang += any(not seen.low <= 0 <= seen.high for seen, _ in found)
        fixed += any(alarm for _, alarm in found)
    assert rang / runs <= ALPHA + 3 * (ALPHA * (1 - ALPHA) / runs) ** 0.5
    assert fixed / runs > 0.15  # what peeking does to the interval of one look


def test_a_planted_lift_is_covered_at_all_looks_and_found():
    rng, held, found = np.random.default_rng(12), 0, 0
    runs, lift = 200, 0.15
    for _ in range(runs):
        path = sequence(looks(rng, lift, returning=False), 0.1)
        held += all(seen.low <= lift <= seen.high for seen, _ in path)
        found += any(seen.p_value < ALPHA for seen, _ in path)
    assert held / runs >= 1 - ALPHA - 3 * (ALPHA * (1 - ALPHA) / runs) ** 0.5
    assert found / runs > 0.9


@given(
    lift=st.floats(-0.5, 1), error=st.floats(0.001, 0.3), expected=st.floats(0.01, 1),
    confidence=st.floats(0.6, 0.99),
)  # fmt: skip
def test_interval_and_p_value_agree_and_are_wider_than_one_looks(lift, error, expected, confidence):
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = math.log1p(lift)
    low, high = math.expm1(centre - quantile * error), math.expm1(centre + quantile * error)
    seen = always_valid(lift, low, high, confidence=confidence, expected=expected)
    assert seen.low < low < high < seen.high
    assert 0 <= seen.p_value <= 1
    outside = not seen.low <= 0 <= seen.high
    edge = min(abs(seen.low), abs(seen.high)) < 1e-9
    assert edge or outside == (seen.p_value < 1 - confidence)


def test_without_a_ratio_there_is_no_interval():
    seen = always_valid(math.nan, math.nan, math.nan, confidence=0.95, expected=0.1)
    assert math.isnan(seen.low)
    assert seen.p_value == 1.0
    with pytest.raises(ConfigError, match="expected-lift"):
        always_valid(0.1, 0.0, 0.2, confidence=0.95, expected=0.0)


def test_a_report_can_be_sequential():
    table = world(0.4, 1, users=900)
    plain, always = ab_report(EXPERIMENT, [table]), ab_report(EXPERIMENT, [table], sequential=0.2)
    assert plain.sequential is None
    assert always.sequential == 0.2
    for a, b in zip(plain.effects, always.effects):
        assert b.low < a.low < a.lift == b.lift < a.high < b.high
        assert b.low < 0.4 < b.high
        assert a.p_value < b.p_value <= b.p_adjusted < 0.05
