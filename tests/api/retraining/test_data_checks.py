"""Planted faults of a day's feedback are named, and ordinary days are not."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from goalrank.api.retraining.data_checks import check_data
from goalrank.api.retraining.settings import GateSettings
from goalrank.requests import Requests
from tests.api.retraining.kit import WARM, WORLD, day, flipped, spammed

PAST = WORLD.sample(WARM, seed=1)


def faults(new: Requests, past: Requests = PAST, **gate: Any) -> dict[str, str]:
    found = check_data(past, new, GateSettings(**gate), "Monday")
    assert [reason.check for reason in found] == [
        "rate of click", "share of one item", "share of one user",
    ]  # fmt: skip
    return {reason.check: reason.said for reason in found if reason.passed is False}


@pytest.mark.parametrize("number", range(8))
def test_ordinary_days_pass(number):
    assert faults(day(number)) == {}


def test_an_item_whose_clicks_were_bought_is_named():
    found = faults(spammed(day(0), 7))
    assert list(found) == ["share of one item"]
    assert found["share of one item"].startswith("Monday: item 7 has 3")


def test_a_robot_is_named():
    table = day(0)
    robots = [1 if i % 3 == 0 else user for i, user in enumerate(table.frame["user_id"])]
    frame = table.frame.with_columns(pl.Series("user_id", robots))
    found = faults(Requests(frame, items=table.items, info=table.info))
    assert list(found) == ["share of one user"]
    assert "user 1 has" in found["share of one user"]


def test_a_rate_that_doubled_or_vanished_is_named():
    assert "rate of click" in faults(flipped(day(0)), rate_ratio=1.2)
    table = day(0)
    none = flipped(table).frame["feedback"].struct.field("click").list.eval(0.0 * pl.element())
    silent = table.frame.with_columns(none.alias("click").to_frame().to_struct("feedback"))
    assert "rate of click" in faults(Requests(silent, items=table.items, info=table.info))


def test_few_requests_prove_nothing():
    assert faults(spammed(day(0), 7).head(4)) == {}


def test_without_feedback_nothing_is_checked():
    found = check_data(PAST, day(0).head(0), GateSettings(), "Monday")
    assert [reason.passed for reason in found] == [None] * 3
