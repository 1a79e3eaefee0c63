"""What a report says that it cannot tell: few units, open intervals, variants that serve the same."""

from __future__ import annotations

import math
from typing import Literal

import pytest

from goalrank.experiments import Experiment, Metric, Variant
from goalrank.experiments.notes import FEW_UNITS, LIFT, Span, unit_notes

NAN = float("nan")


def make(
    bundle: str | None = "runs/new", unit: Literal["user_id", "request_id"] = "user_id"
) -> Experiment:
    return Experiment(
        name="x", salt="s", unit=unit, metrics=(Metric(name="clicks", kind="click"),),
        variants=(Variant(name="control"), Variant(name="new", bundle=bundle)),
    )  # fmt: skip


def notes(experiment, units, spans=(), confidence=0.95, lift=LIFT):
    counts = dict(zip(("control", "new"), units))
    return unit_notes(experiment, "control", counts, spans, confidence=confidence, lift=lift)


def span(low, high, is_open=True):
    return Span("clicks", "new", low, high, is_open)


def test_few_units_are_said_in_their_own_word():
    (said,) = notes(make(), (27, 23))
    assert said.startswith("Too few users to conclude anything (control 27, new 23)")
    (said,) = notes(make(unit="request_id"), (FEW_UNITS, FEW_UNITS - 1))
    assert said.startswith("Too few requests")
    assert notes(make(), (FEW_UNITS, FEW_UNITS)) == ()


def test_variants_that_serve_the_same_are_an_a_a_test():
    (said,) = notes(make(bundle=None), (500, 500))
    assert "new serves what control serves (an A/A test)" in said
    assert "about 5 % of the intervals" in said
    assert "about 10 % of" in notes(make(bundle=None), (500, 500), confidence=0.9)[0]


def test_an_open_interval_says_how_many_units_would_find_a_lift():
    half = math.log1p(0.05) * 1.959964 / (1.959964 + 0.841621)  # just enough for 5 %
    exact = span(math.expm1(-half), math.expm1(half))
    (said,) = notes(make(), (500, 500), [exact])
    assert said.startswith("clicks, new: not told apart from control")
    assert "lift of 5 % with probability 80 % takes about 500 users in each" in said or (
        "about 510 users" in said  # rounded up to two digits
    )
    (wide,) = notes(make(), (500, 500), [span(math.expm1(-2 * half), math.expm1(2 * half))])
    assert "about 2,000 users" in wide or "about 2,100 users" in wide
    (smaller,) = notes(make(), (500, 500), [exact], lift=0.1)
    assert "lift of 10 %" in smaller
    assert "about 140 users" in smaller  # (ln 1.05 / ln 1.1)² of 500, rounded up to two digits
    assert "there are 500 and 500." in smaller


@pytest.mark.parametrize(
    "found",
    [span(0.01, 0.2, False), span(-1.0, 0.2), span(NAN, NAN), span(-0.1, math.inf), span(0.0, 0.0)],
)
def test_what_is_told_or_cannot_be_reckoned_has_no_note(found):
    assert notes(make(), (500, 500), [found]) == ()
