"""Reward-model measures against scipy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.errors import DataError
from goalrank.evaluation import (
    calibration,
    constant_log_loss,
    log_loss,
    log_loss_gain,
    order_correlation,
    reward_auc,
    slot_quality,
)

stats = pytest.importorskip("scipy.stats")


def test_auc_counts_pairs():
    assert reward_auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert reward_auc([0.5, 0.5], [0, 1]) == 0.5
    assert math.isnan(reward_auc([0.5, 0.5], [1, 1]))


def test_log_loss_against_the_constant():
    y = np.array([1, 0, 0, 0.0])
    assert constant_log_loss(y) == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    assert log_loss_gain(np.full(4, 0.25), y) == pytest.approx(0.0)
    assert log_loss_gain([0.9, 0.1, 0.1, 0.1], y) > 0.5
    assert log_loss_gain([0.9, 0.1, 0.1, 0.1], y, [0.9, 0.1, 0.1, 0.1]) == pytest.approx(0.0)
    assert math.isfinite(log_loss([0.0, 1.0], [1, 0]))


def test_calibrated_probabilities_have_little_error():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    y = (rng.random(20_000) < p).astype(float)
    good = calibration(p, y)
    assert good.error < 0.02
    assert good.count.tolist() == [2000] * 10
    assert calibration(p**3, y).error == pytest.approx(0.25, abs=0.02)  # E[p] - E[p³] = 1/2 - 1/4


def test_equal_probabilities_share_a_bin():
    found = calibration([0.3] * 7 + [0.9] * 3, [1, 0, 0, 0, 0, 0, 1, 1, 1, 1])
    assert found.count.tolist() == [7, 3]
    assert found.observed.tolist() == pytest.approx([2 / 7, 1.0])


def test_slot_quality_reads_only_the_shown():
    p = np.array([[[0.9], [0.2]], [[0.1], [0.7]]])
    y = np.array([[[1.0], [9.0]], [[0.0], [1.0]]])
    mask = np.array([[True, False], [True, True]])
    rows = slot_quality(p, y, mask, ("click",))
    assert [(r["slot"], r["count"]) for r in rows] == [(0, 3), (1, 2), (2, 1)]
    assert rows[0]["auc"] == 1.0
    with pytest.raises(DataError, match="do not"):
        slot_quality(p, y, mask, ("click", "like"))


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 9), st.booleans())
@settings(max_examples=40, deadline=None)
def test_order_correlation_equals_scipy(seed, b, g, tied):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, b, g))
    if tied:
        x, y = np.round(x), np.round(y)
    mask = rng.random((b, g)) < 0.8
    found = order_correlation(np.where(mask, x, 77.0), np.where(mask, y, -9.0), mask)
    functions = {
        "pearson": stats.pearsonr,
        "spearman": stats.spearmanr,
        "kendall": stats.kendalltau,
    }
    for name, function in functions.items():
        want = []
        for i in range(b):
            u, v = x[i, mask[i]], y[i, mask[i]]
            if len(set(u)) > 1 and len(set(v)) > 1:
                want.append(function(u, v).statistic)
        assert found[name].count == len(want)
        if want:
            assert found[name].mean == pytest.approx(np.mean(want), abs=1e-9)
            assert found[name].std == pytest.approx(np.std(want), abs=1e-9)


def test_order_correlation_ignores_shift_and_scale_and_constants():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 8))
    found = order_correlation(x, 3 * x + 1e6)
    assert found["spearman"].mean == found["kendall"].mean == pytest.approx(1.0)
    assert order_correlation(x, np.full((5, 8), 0.1))["pearson"].count == 0
    assert order_correlation(x, -x)["kendall"].mean == pytest.approx(-1.0)
