"""What a report holds: plain values, so that a report can be kept as JSON and drawn again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from goalrank.evaluation import Audit, Evaluation, Reason

_BASELINES = 4  # beside the best one, in the main comparison

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]  # ranker → metric → mean, low, high


@dataclass(frozen=True)
class Move:
    """The candidate that a ranker lifts most above its place in a baseline's order.

    Where both give the same list, it is the first candidate.

    Attributes:
        ranker, baseline: names of the two.
        position: the candidate, in `Example.candidates`.
        before: its place in the baseline's order, from 0.
        after: its place in the ranker's list, from 0.
        reasons: what lifts it, most important first.
    """

    ranker: str
    baseline: str
    position: int
    before: int
    after: int
    reasons: Sequence[Reason] = ()


@dataclass(frozen=True)
class Example:
    """One request, with what each ranker would have shown.

    Attributes:
        request: a name for it.
        candidates: [N] titles in input order.
        liked: [N] True for positives.
        choices: ranker → up to L positions in `candidates`, best first.
        history: titles of the latest history events, oldest first.
        rewards: ranker → the reward model's value of its list.
        probabilities: ranker → the reward model's probability for each slot.
        move: what moved up and why; None where it was not asked.
    """

    request: str
    candidates: Sequence[str]
    liked: Sequence[bool]
    choices: Mapping[str, Sequence[int]]
    history: Sequence[str] = ()
    rewards: Mapping[str, float] = field(default_factory=dict)
    probabilities: Mapping[str, Sequence[float]] = field(default_factory=dict)
    move: Move | None = None


@dataclass(frozen=True)
class Report:
    """Everything on the page; empty parts are left out of it.

    Attributes:
        title: of the page.
        metric: full name of the metric that the headline and the first chart use.
        trained, baselines: ranker → metric → {"mean", "low", "high"}, as `Evaluation.to_dict` gives.
        lines: what is asked first → a plain sentence: how much better, how sure, what next.
        verdict: sentences of the audit, the most important first.
        differences: trained rankers, and baselines near the best one → the paired difference to the
            best baseline, {"mean", "low", "high", "p"}.
        choices: trained rankers among which that of `lines` was chosen; `lines` allow for it.
        best_baseline: the baseline that `differences` are taken to.
        metadata: what the numbers rest on, as `Evaluation.metadata` gives.
        warning: printed at the top.
        training: stage → telemetry rows with "step" and numbers; keys "best_from/NAME" are shares of
            groups whose best list came from NAME.
        reward_gaps: differences between neighbouring rewards within groups; if empty, the logged
            "gap_median" is used.
        reward_model: optional keys "kinds" (feedback type → "auc", "gain_over_constant" and, of a
            model of each item alone, "itemwise_auc" and "gain_over_itemwise"), "slots" (rows of
            `slot_quality`), "correlation" (name → {"mean", "std", "count"}), "correlation_note" and
            "calibration" ({"predicted", "observed"}, and the "kind" if it is known).
        meanings: candidate feature → what it is.
        examples: requests side by side.
        seconds: stage → seconds.
        provenance: versions, seeds, data.
    """

    title: str
    metric: str
    trained: Metrics = field(default_factory=dict)
    baselines: Metrics = field(default_factory=dict)
    lines: Mapping[str, str] = field(default_factory=dict)
    verdict: Sequence[str] = ()
    differences: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    choices: int = 1
    best_baseline: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    warning: str | None = None
    training: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    reward_gaps: Sequence[float] = ()
    reward_model: Mapping[str, Any] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        title: str,
        trained: Evaluation | None,
        baselines: Evaluation,
        audit: Audit,
        **parts: Any,
    ) -> Report:
        """A report on evaluations of the same requests; `parts` are further fields.

        Args:
            title: headline of the report.
            trained: evaluation of the trained rankers, if any.
            baselines: evaluation of the baselines.
            audit: their comparison.
            **parts: further fields of the report.
        """
        metadata = (trained or baselines).metadata()
        metadata["milliseconds"] = {
            name: each.milliseconds(name)
            for each in (trained, baselines)
            if each is not None
            for name in each.rankers
        }
        return cls(
            title=title,
            metric=audit.metric,
            trained=trained.to_dict() if trained is not None else {},
            baselines=baselines.to_dict(),
            lines={} if audit.comparison is None else audit.comparison.lines,
            verdict=audit.verdict,
            choices=1 if audit.comparison is None else audit.comparison.choices,
            differences=_differences(trained, baselines, audit),
            best_baseline=audit.baseline,
            metadata=metadata,
            **{"warning": metadata["warning"], **parts},
        )


def _differences(
    trained: Evaluation | None, baselines: Evaluation, audit: Audit
) -> dict[str, dict[str, float]]:
    """Differences to the best baseline, of the trained rankers and of the next best baselines."""
    both = baselines if trained is None else trained.merged(baselines)
    near = [name for name in baselines.best_first(audit.metric) if name != audit.baseline]
    learned = [] if trained is None else trained.rankers
    return {
        name: both.paired(name, audit.baseline, audit.metric).to_dict()
        for name in (*learned, *near[:_BASELINES])
        if audit.metric in both.values[name]
    }
