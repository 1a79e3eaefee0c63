"""Guardrails: metrics that a variant must not lose more of than is tolerated."""

from __future__ import annotations

from dataclasses import dataclass

from goalrank.experiments.analysis import Effect, Report
from goalrank.experiments.config import Experiment, Metric
from goalrank.wording import signed_percent


@dataclass(frozen=True)
class Breach:
    """A variant whose loss of a guardrail metric is above what is tolerated, beyond chance.

    Attributes:
        metric: the guardrail.
        effect: what was measured of the variant, against control.
    """

    metric: Metric
    effect: Effect

    def __str__(self) -> str:
        limit = self.metric.guardrail or 0.0
        return (
            f"{self.metric.name} {signed_percent(self.effect.lift, 1)} [{signed_percent(self.effect.low, 1)}, "
            f"{signed_percent(self.effect.high, 1)}], limit {signed_percent(limit if self.metric.harm else -limit, 1)}"
        )


def broken_guardrails(experiment: Experiment, report: Report, variant: str) -> list[Breach]:
    """List the guardrails that a variant breaks: the whole interval of its lift is beyond the limit.

    Looks may be repeated if the report is sequential; with one for a single look, daily checks
    raise false alarms.

    Args:
        experiment: its metrics say what is tolerated.
        report: of this experiment; the loss is against its control.
        variant: the variant that is checked.
    """
    limits = {each.name: each for each in experiment.metrics if each.guardrail is not None}
    return [
        Breach(limits[effect.metric], effect)
        for effect in report.effects
        if effect.variant == variant
        and effect.metric in limits
        and _is_broken(limits[effect.metric], effect)
    ]


def _is_broken(metric: Metric, effect: Effect) -> bool:
    limit = metric.guardrail or 0.0
    return effect.low > limit if metric.harm else effect.high < -limit
