"""The audit: baselines, measured under the same protocol as the trained rankers.

If a baseline stands above the best trained ranker, or is level with it, the protocol rewards something
other than ranking: in protocols that add the answers to retrieved candidates, for example, sorting by
*minus* the retriever's score finds the added ones. Where the requests are too few to tell, the audit
says how many would be needed. One baseline learns: a linear model of the candidates' features, solved in
seconds (`linear_baseline`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from goalrank.errors import ConfigError
from goalrank.evaluation.ranking.comparison import LINEAR, Comparison
from goalrank.evaluation.ranking.evaluation import Evaluation
from goalrank.evaluation.statistics.bootstrap import Difference
from goalrank.rankers import (
    Constant,
    FeatureOrder,
    InputOrder,
    ItemStatistic,
    LastItemTransitions,
    LinearScores,
    RandomOrder,
    RetrieverOrder,
    Scorer,
)
from goalrank.requests import EncodedRequests, InputSpec
from goalrank.wording import signed

_REVERSED = " (reversed)"
_CHANCE = ("constant", "random")


def audit_baselines(train: EncodedRequests, feature_names: Sequence[str] = ()) -> dict[str, Scorer]:
    """Name → every baseline that these requests allow; names ending in "(reversed)" sort the other way round.

    Args:
        train: encoded requests of the past; counts come from them alone.
        feature_names: names of the F candidate features, each of them gives two baselines, up and down.

    Raises:
        ConfigError: the number of names is not F.
    """
    _check_names(train, feature_names)
    baselines: dict[str, Scorer] = {}
    if _has_score(train):
        _both(baselines, "retriever order", RetrieverOrder(), RetrieverOrder(reverse=True))
    popular = ItemStatistic.popularity(train)
    _both(baselines, "popularity", popular, ItemStatistic(popular.values, reverse=True))
    if train.target >= 0:
        rate = ItemStatistic.feedback_rate(train)
        _both(baselines, "smoothed feedback rate", rate, ItemStatistic(rate.values, reverse=True))
    baselines["last-item transitions"] = LastItemTransitions.fit(train)
    _both(baselines, "input order", InputOrder(), InputOrder(reverse=True))
    baselines["random"] = RandomOrder()
    baselines["constant"] = Constant()
    for i, name in enumerate(feature_names):
        _both(baselines, f"feature:{name}", FeatureOrder(i), FeatureOrder(i, reverse=True))
    return baselines


def linear_baseline(spec: InputSpec, train: EncodedRequests) -> dict[str, Scorer]:
    """Fit the baseline that learns: a conditional logit on the candidates' features.

    Args:
        spec: shapes of the requests.
        train: encoded requests of the past.

    Returns:
        The fitted baseline by its name; empty where there are no features or no target.
    """
    linear = LinearScores(spec)
    if train.target < 0 or not linear.has_inputs:
        return {}
    linear.fit_closed_form(train, None, 0, 0)
    return {LINEAR: linear.eval()}


def absent_baselines(train: EncodedRequests) -> list[str]:
    """Sentences on the baselines that these requests do not allow."""
    out = []
    if not _has_score(train):
        out.append("No retriever's score came with the requests, so its order was not audited.")
    if train.target < 0:
        out.append("No feedback kind is the target, so feedback rates were not audited.")
    if len(train.history) == 0:
        out.append("No request has a history, so last-item transitions score all candidates alike.")
    return out


def _both(baselines: dict[str, Scorer], name: str, forward: Scorer, backward: Scorer) -> None:
    baselines[name] = forward
    baselines[name + _REVERSED] = backward


def _has_score(train: EncodedRequests) -> bool:
    return bool(np.any(train.candidate_score != 0))


def _check_names(train: EncodedRequests, names: Sequence[str]) -> None:
    width = train.own_features.shape[1]
    if len(names) != width:
        raise ConfigError(
            f"{len(names)} feature names for {width} candidate features; remedy: pass the names in "
            f"the table's candidate_features, in their order (option: feature_names)"
        )


@dataclass(frozen=True)
class Audit:
    """How the best trained ranker compares with the best baseline.

    Attributes:
        metric: full name, such as "ndcg@6".
        baseline, trained: the best of each; `trained` is None if none was evaluated.
        difference: trained minus baseline over the same requests; None without a trained ranker.
        holds: True if the whole interval of the difference is above 0.
        verdict: sentences for people, the most important first.
        comparison: the numbers behind the first sentence; None without a trained ranker.
    """

    metric: str
    baseline: str
    trained: str | None
    difference: Difference | None
    holds: bool
    verdict: tuple[str, ...]
    comparison: Comparison | None = None


def audit(
    rankers: Evaluation | None,
    baselines: Evaluation,
    metric: str = "ndcg",
    *,
    notes: Sequence[str] = (),
) -> Audit:
    """Compare trained rankers with baselines evaluated on the same requests.

    Both are chosen on these very requests. The interval is corrected for the choice among the trained
    rankers. The choice among baselines favours the baseline: the audit errs on the side of doubt,
    and says so where the baseline is the better one by no more than that choice may explain.

    Args:
        rankers: evaluation of the trained rankers, if any.
        baselines: evaluation of `audit_baselines`.
        metric: what they are compared by, with or without "@L".
        notes: further sentences, such as `absent_baselines`.

    Raises:
        ConfigError: the evaluations differ in their requests, or lack the metric.
    """
    name = baselines.metric_name(metric)
    baseline = baselines.best(name)
    if rankers is None or not rankers.rankers:
        value = baselines.interval(baseline, name).mean
        first = f"The best baseline, {baseline}, scores {value:.3f} {name}."
        if not math.isfinite(value):
            first = (
                f"Baselines cannot be compared: {name} is defined on none of these requests; remedy: "
                f"another metric (option: --metric)."
            )
        return Audit(name, baseline, None, None, False, (first, *_leak(baselines, name), *notes))
    trained = rankers.best(name)
    both = rankers.merged(baselines)
    comparison = Comparison.of(both, trained, baseline, name, choices=len(_having(rankers, name)))
    doubt = _chosen(both, comparison, len(_having(baselines, name)))
    verdict = (comparison.verdict, *_leak(baselines, name), *doubt, *notes)
    holds = comparison.outcome == "above"
    return Audit(name, baseline, trained, comparison.difference, holds, verdict, comparison)


def _having(evaluation: Evaluation, metric: str) -> list[str]:
    return [name for name, values in evaluation.values.items() if metric in values]


def _chosen(both: Evaluation, found: Comparison, baselines: int) -> list[str]:
    """A sentence where the baseline's lead may come from its being the best of many here."""
    if found.outcome != "below":
        return []
    corrected = both.paired(found.trained, found.baseline, found.metric, baselines)
    if corrected.high < 0:
        return []
    return [
        f"The baseline is the best of {baselines} on these very requests, which may explain its lead: "
        f"corrected for that choice, the interval reaches {signed(corrected.high)}."
    ]


def _leak(baselines: Evaluation, metric: str) -> list[str]:
    """A sentence where the retriever turned upside down beats both itself and chance."""
    upright, reversed_ = "retriever order", "retriever order" + _REVERSED
    chance = next((name for name in _CHANCE if name in baselines.values), None)
    if reversed_ not in baselines.values or upright not in baselines.values or chance is None:
        return []
    value = baselines.interval(reversed_, metric).mean
    if min(baselines.paired(reversed_, other, metric).low for other in (upright, chance)) <= 0:
        return []
    return [
        f"Sorting by minus the retriever's score gives {value:.3f} {metric}, above the retriever's own "
        f"order ({baselines.interval(upright, metric).mean:.3f}) and chance "
        f"({baselines.interval(chance, metric).mean:.3f}): the positives can be told by how they came to be "
        f"candidates."
    ]
