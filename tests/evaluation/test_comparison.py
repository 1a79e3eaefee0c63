"""The main comparison in words: how much, how sure, what next."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalrank.evaluation import LINEAR, Comparison, Difference

ENDS = st.floats(-0.5, 0.5)


def compare(low: float, high: float, baseline: str = "popularity") -> Comparison:
    mean = (low + high) / 2 if high < float("inf") else 0.1
    gap = Difference(mean, low, high, 0.5)
    return Comparison("ndcg@6", "prm", baseline, 0.5 + mean, 0.5, gap, 400)


@pytest.mark.parametrize(
    ("ends", "outcome", "said"),
    [
        ((0.01, 0.03), "above", "Sure: the 95 % interval of the difference, +0.010 to +0.030"),
        ((0.001, 0.004), "above", "though it is small"),
        ((-0.03, -0.01), "below", "Sure that the baseline is better"),
        ((-0.004, 0.003), "level", "within 0.005 of 0"),
        ((-0.01, 0.03), "open", "About 6,400 scored requests would tell a difference of 0.005"),
        ((float("-inf"), float("inf")), "one user", "one user says nothing of others"),
    ],
)
def test_the_interval_decides_what_is_said(ends, outcome, said):
    found = compare(*ends)
    assert found.outcome == outcome
    assert said in found.lines["How sure"]


@given(ENDS, ENDS)
def test_no_more_is_claimed_than_the_interval_shows(a: float, b: float):
    low, high = sorted((a, b))
    found = compare(low, high)
    words = " ".join([found.verdict, *found.lines.values()])
    holds_zero = low <= 0 <= high
    assert ("exceeds" in words) == (low > 0)
    assert ("Not sure" in words) == (holds_zero and max(-low, high) > 0.005)
    assert ("does not measure ranking" in words) == (
        high < 0 or (holds_zero and max(-low, high) <= 0.005)
    )
    if "Not sure" in words:
        asked = {int(n.replace(",", "")) for n in re.findall(r"bout ([\d,]+) scored", words)}
        assert len(asked) == 1
        assert asked.pop() > found.scored


def test_how_much_is_told_in_points_and_percent():
    said = compare(0.02, 0.04).lines["How much better"]
    assert (
        said
        == "prm scores 0.530 ndcg@6, 0.030 (6.0 %) above the best baseline, popularity (0.500)."
    )
    assert "0.030 (6.0 %) below" in compare(-0.04, -0.02).lines["How much better"]
    assert "as much as the best baseline" in compare(-0.0001, 0.0002).lines["How much better"]


def test_the_next_step_follows_from_the_outcome():
    assert compare(0.01, 0.03).lines["What next"].startswith("Test prm on users")
    assert compare(-0.01, 0.03).lines["What next"].startswith("Bring more requests")
    assert "Deploy popularity" in compare(-0.03, -0.01).lines["What next"]
    linear = compare(-0.03, -0.01, LINEAR).lines["What next"]
    assert linear.startswith("Train longer, or deploy the linear model itself")
