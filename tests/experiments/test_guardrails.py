"""Guardrails: a planted loss beyond the limit is found, one within it is not, whatever the direction."""

from __future__ import annotations

import pytest

pytest.importorskip("tea_tasting")

from goalrank.errors import TooFewUnitsError
from goalrank.experiments import Metric, ab_report, broken_guardrails
from tests.experiments.test_analysis import EXPERIMENT, world


def guarded(**options: object):
    metric = Metric(name="clicks", kind="click", **options)  # type: ignore[arg-type]
    return EXPERIMENT.model_copy(update={"metrics": (metric,)})


def broken(lift: float, seed: int, **options: object) -> list[str]:
    experiment = guarded(**options)
    report = ab_report(experiment, [world(lift, seed)], sequential=0.1)
    return [str(breach) for breach in broken_guardrails(experiment, report, "b")]


def test_a_loss_beyond_the_limit_breaks_it():
    (said,) = broken(-0.4, 1, guardrail=0.1)
    assert said.startswith("clicks -")
    assert said.endswith("limit -10.0%")


@pytest.mark.parametrize(("lift", "limit"), [(-0.1, 0.2), (0.3, 0.0), (0.0, 0.0), (-0.4, None)])
def test_a_tolerated_loss_a_gain_and_what_is_no_guardrail_break_nothing(lift, limit):
    assert broken(lift, 2, guardrail=limit) == []


def test_a_rise_of_harm_is_the_loss():
    (said,) = broken(0.4, 3, guardrail=0.1, harm=True)
    assert said.endswith("limit +10.0%")
    assert broken(-0.4, 3, guardrail=0.1, harm=True) == []


def test_looks_at_an_a_a_test_break_nothing():
    """Alpha is 5 % over all looks; 20 tests with a look each leave P(more than 5) < 1e-3."""
    assert sum(bool(broken(0.0, seed, guardrail=0.0)) for seed in range(20)) <= 5


def test_control_has_no_effect_and_breaks_nothing():
    experiment = guarded(guardrail=0.0)
    report = ab_report(experiment, [world(-0.4, 1)])
    assert broken_guardrails(experiment, report, "a") == []


def test_too_few_units_are_told_apart_from_bad_data():
    with pytest.raises(TooFewUnitsError):
        ab_report(guarded(), [world(0.0, 7, users=2)])
