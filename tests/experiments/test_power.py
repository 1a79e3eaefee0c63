"""Planning: the promised power is met by simulation, and solving back and forth agrees."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

pytest.importorskip("tea_tasting")

from goalrank.errors import ConfigError, DataError
from goalrank.experiments import MetricBaseline, ab_plan, read_baseline
from tests.experiments.test_analysis import world

BASE = MetricBaseline(mean=2.0, deviation=3.0, traffic=500.0)


def test_sample_size_equals_the_textbook_formula():
    """n = 2 (z_.975 + z_.8)² σ² / δ² an arm; equality up to Student's t."""
    found = ab_plan(BASE, lift=0.05)
    assert found.per_variant == pytest.approx(2 * (1.959964 + 0.841621) ** 2 * 9 / 0.1**2, rel=1e-3)
    assert found.units == 2 * found.per_variant
    assert found.days == pytest.approx(found.units / 500)


def test_the_power_equals_its_simulated_frequency():
    found = ab_plan(BASE, lift=0.2)
    rng, n = np.random.default_rng(0), found.per_variant
    runs = 400
    a, b = rng.normal(2.0, 3.0, (runs, n)), rng.normal(2.4, 3.0, (runs, n))
    z = (b.mean(1) - a.mean(1)) / np.sqrt((a.var(1) + b.var(1)) / n)
    assert (np.abs(z) > 1.96).mean() == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / runs))


def test_days_and_lift_are_each_others_inverse():
    there = ab_plan(BASE, lift=0.05, variants=3, power=0.9)
    back = ab_plan(BASE, days=there.days, variants=3, power=0.9)
    assert back.lift == pytest.approx(0.05, rel=1e-3)
    assert there.alpha == pytest.approx(0.025)
    assert there.per_variant > ab_plan(BASE, lift=0.05, power=0.9).per_variant
    assert ab_plan(BASE, lift=-0.05).per_variant == ab_plan(BASE, lift=0.05).per_variant


def test_a_log_gives_the_baseline():
    table = world(0.0, 3, users=400, labelled=False)
    found = read_baseline(
        [table.head(300), table.take(range(300, len(table)))], "click", per="unit"
    )
    clicks = table.frame["feedback"].struct.field("click").list.sum()
    sums = table.frame.with_columns(c=clicks).group_by("user_id").agg(pl.col("c").sum())
    assert found.units == 400
    assert found.mean == pytest.approx(sums["c"].mean())
    assert found.deviation == pytest.approx(sums["c"].std())
    assert found.traffic == 400  # all within a day
    ratio = read_baseline([table], "click")
    assert ratio.mean == pytest.approx(clicks.mean())
    assert ratio.deviation < found.deviation
    single = read_baseline([table], "click", unit="request_id")
    assert single.units == len(table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one"),
        ({"lift": 0.1, "days": 3}, "exactly one"),
        ({"lift": 0.0}, "lift"),
        ({"lift": math.nan}, "lift"),
        ({"days": -1}, "days"),
        ({"days": 0.001}, "more days"),
        ({"lift": 0.1, "alpha": 1.5}, "alpha"),
        ({"lift": 0.1, "power": 0.01}, "power"),
        ({"lift": 0.1, "variants": 1}, "variants"),
    ],
)
def test_faults(options, message):
    with pytest.raises(ConfigError, match=message):
        ab_plan(BASE, **options)


def test_impossible_baselines():
    faults = {"mean": (0.0, 1.0, 1.0), "sd": (1.0, 0.0, 1.0), "traffic": (1.0, 1.0, 0.0)}
    for name, (mean, deviation, traffic) in faults.items():
        with pytest.raises(ConfigError, match=name):
            ab_plan(MetricBaseline(mean, deviation, traffic), lift=0.1)
    with pytest.raises(DataError, match="two"):
        read_baseline([world(0.0, 3, users=1, labelled=False)], "click")
    with pytest.raises(DataError, match="buy"):
        read_baseline([world(0.0, 3, users=5, labelled=False)], "buy")
