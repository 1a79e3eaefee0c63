"""Online experiments: assignment, A/B statistics, sequential tests, power, interleaving."""

from goalrank.experiments.analysis import Effect, Report, ab_report
from goalrank.experiments.config import (
    RESERVED,
    Experiment,
    Experiments,
    Interleaving,
    Metric,
    Variant,
)
from goalrank.experiments.guardrails import Breach, broken_guardrails
from goalrank.experiments.interleaving import (
    Draft,
    InterleaveReport,
    Preference,
    draft_coins,
    draft_label,
    interleave_report,
    team_draft,
)
from goalrank.experiments.power import MetricBaseline, PowerPlan, ab_plan, read_baseline
from goalrank.experiments.sequential import AlwaysValid, always_valid

__all__ = [
    "RESERVED",
    "AlwaysValid",
    "Breach",
    "Draft",
    "Effect",
    "Experiment",
    "Experiments",
    "InterleaveReport",
    "Interleaving",
    "Metric",
    "MetricBaseline",
    "PowerPlan",
    "Preference",
    "Report",
    "Variant",
    "ab_plan",
    "ab_report",
    "always_valid",
    "broken_guardrails",
    "draft_coins",
    "draft_label",
    "interleave_report",
    "read_baseline",
    "team_draft",
]
