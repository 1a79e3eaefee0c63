"""Reports of experiments: a planted lift is found, none is not, broken assignment rings."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

pytest.importorskip("tea_tasting")

from goalrank.errors import DataError
from goalrank.experiments import Experiment, Metric, Variant, ab_plan, read_baseline
from goalrank.experiments.analysis import ab_report
from goalrank.requests import Requests, TableInfo

EXPERIMENT = Experiment(
    name="x", salt="s", variants=(Variant(name="a"), Variant(name="b")),
    metrics=(
        Metric(name="per_user", kind="click", per="unit"),
        Metric(name="per_request", kind="click"),
        Metric(name="per_item", kind="click", per="item"),
    ),
)  # fmt: skip


def world(lift: float, seed: int, *, users: int = 1500, labelled: bool = True, drop: float = 0.0):
    """Users of differing zeal who see 1…4 lists of 3 items; arm b multiplies the click rate."""
    rng = np.random.default_rng(seed)
    zeal = np.random.default_rng(99).uniform(0.05, 0.5, users)
    rows: list[dict[str, Any]] = []
    for user in range(users):
        variant = EXPERIMENT.assign(user)
        assert variant is not None
        arm = variant.name
        if labelled and arm == "b" and rng.random() < drop:
            continue
        rate = zeal[user] * (1 + lift if arm == "b" and labelled else 1)
        for r in range(rng.integers(1, 5)):
            rows.append(
                {
                    "request_id": f"{labelled}{user}-{r}", "user_id": user,
                    "time": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=len(rows)),
                    "candidates": [1, 2, 3, 4], "shown": [0, 1, 2],
                    "feedback": {"click": (rng.random(3) < rate).astype(float).tolist()},
                    "experiment": f"other:q,x:{arm}" if labelled else None,
                }
            )  # fmt: skip
    info = TableInfo(feedback_kinds=("click",), target="click")
    return Requests(pl.DataFrame(rows), info=info)


def test_a_planted_lift_is_found_and_covered():
    report = ab_report(EXPERIMENT, [world(0.3, 1)])
    assert not report.alarm
    assert report.crossed == 0
    assert len(report.effects) == 3
    for effect in report.effects:
        assert effect.low < 0.3 < effect.high
        assert effect.p_adjusted < 0.01
        assert effect.p_value <= effect.p_adjusted


def test_false_alarms_of_a_a_tests_match_alpha():
    lower = [
        ab_report(EXPERIMENT, [world(0.0, seed, users=300)]).effects[1].p_value < 0.05
        for seed in range(20)
    ]
    assert sum(lower) <= 5  # P(more) < 1e-3 at a true rate of 5 %


def test_cuped_narrows_intervals():
    plain = ab_report(EXPERIMENT, [world(0.2, 2)])
    cuped = ab_report(EXPERIMENT, [world(0.2, 2)], [world(0.0, 3, labelled=False)])
    for a, b in zip(plain.effects, cuped.effects):
        assert b.cuped
        assert b.high - b.low < a.high - a.low
        assert b.low < 0.2 < b.high


def test_lost_units_raise_the_sample_ratio_alarm():
    assert ab_report(EXPERIMENT, [world(0.0, 4, drop=0.3)]).alarm


def test_units_of_two_arms_are_left_out_and_counted():
    table = world(0.0, 5, users=50)
    frame = table.frame.with_row_index("i").with_columns(
        experiment=pl.when(pl.col("i") == 0).then(pl.lit("x:a")).when(pl.col("user_id") == 0)
        .then(pl.lit("x:b")).otherwise(pl.col("experiment")),
    ).drop("i")  # fmt: skip
    first = frame.filter(pl.col("user_id") == 0)
    more = first.with_columns(request_id=pl.lit("again"), experiment=pl.lit("x:b")).head(1)
    report = ab_report(EXPERIMENT, [Requests(pl.concat([frame, more]), info=table.info)])
    assert report.crossed == 1
    assert sum(report.units.values()) == 49


def test_chunks_do_not_matter():
    table = world(0.1, 6, users=200)
    parts = [table.take(range(i, min(i + 37, len(table)))) for i in range(0, len(table), 37)]
    assert ab_report(EXPERIMENT, parts) == ab_report(EXPERIMENT, [table])


def test_the_units_that_a_report_asks_for_are_those_of_a_plan():
    table = world(0.0, 8, users=800)
    report = ab_report(EXPERIMENT, [table])
    assert report.notes[0].startswith("b serves what a serves")
    assert report.to_dict()["notes"] == report.notes
    for effect, metric in zip(report.effects, EXPERIMENT.metrics, strict=True):
        if not effect.low <= 0 <= effect.high:
            continue
        said = next(note for note in report.notes if note.startswith(f"{effect.metric}, b"))
        asked = int(re.findall(r"about ([\d,]+) users", said)[0].replace(",", ""))
        plan = ab_plan(read_baseline([table], "click", per=metric.per), lift=0.05)
        assert asked == pytest.approx(plan.per_variant, rel=0.15)
    few = ab_report(EXPERIMENT, [world(0.0, 9, users=60)], sequential=0.2)
    assert any(note.startswith("Too few users") for note in few.notes)
    assert any("a lift of 20 %" in note for note in few.notes)


def test_nothing_to_compare():
    for tables in ([world(0.0, 7, users=2)], []):
        with pytest.raises(DataError, match="two or more"):
            ab_report(EXPERIMENT, tables)
    odd = EXPERIMENT.model_copy(update={"metrics": (Metric(name="m", kind="buy"),)})
    with pytest.raises(DataError, match="buy"):
        ab_report(odd, [world(0.0, 7, users=20)])
