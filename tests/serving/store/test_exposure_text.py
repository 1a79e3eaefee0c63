"""Text of a stored exposure: what was given comes back, and nothing that JSON has no word for."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalrank.serving.store.records import Exposure, exposure_row

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
_ids = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
    st.lists(st.text(st.characters(codec=None)), min_size=1),  # halves of surrogate pairs too
)
_finite = st.floats(allow_nan=False, allow_infinity=False)


def text(**changes: Any) -> str:
    """The text of an exposure."""
    whole: dict[str, Any] = {
        "request_id": "r",
        "user_id": 1,
        "time": NOON,
        "candidates": [1, 2],
        "shown": [0],
    }
    row = exposure_row(Exposure(**(whole | changes)))
    return str(row["body"])


@given(_ids, st.lists(_finite), st.sampled_from(["NaN", "Infinity", "a"]))
def test_values_come_back(ids, numbers, policy):
    found = json.loads(text(
        candidates=ids, user_id=ids[0], candidate_score=numbers, candidate_features=[numbers],
        policy=policy,
    ))  # fmt: skip
    assert found["candidates"] == ids
    assert found["user_id"] == ids[0]
    assert found["policy"] == policy
    for each in (found["candidate_score"], found["candidate_features"][0]):
        assert each == numbers
        assert [math.copysign(1, x) for x in each] == [math.copysign(1, x) for x in numbers]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused(value):
    for changes in ({"candidate_score": [1.0, value]}, {"propensity": value}):
        with pytest.raises(ValueError, match="not JSON compliant"):
            text(**changes)


def test_times_are_microseconds():
    moment = (NOON + timedelta(microseconds=1)).astimezone(timezone(timedelta(hours=5)))
    found = json.loads(text(time=moment, history=[1], history_time=[moment]))
    assert found["time"] == found["history_time"][0] == 1_704_110_400_000_001
