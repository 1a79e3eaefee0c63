"""Whether a log can speak about a new policy at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.errors import DataError, InfeasibleError
from goalrank.evaluation.off_policy.estimators import Logged, effective_clicks, effective_size
from goalrank.evaluation.statistics.bootstrap import FloatArray
from goalrank.requests import LogFingerprint, Requests
from goalrank.wording import counted

_SEEN = 0.01  # share of a log's requests that may have been trained on
_STANDARD_ERRORS = 4.0  # a mean weight this far below 1 is no chance


@dataclass(frozen=True)
class Support:
    """How well the log covers the new policy.

    Attributes:
        requests: R that the estimates rest on.
        effective: (Σ w)² / Σ w², Kish's effective sample size.
        effective_clicks: (Σ w·r)² / Σ (w·r)²: on how many answers of equal weight the estimates rest.
        impossible: share of logged lists that the new policy cannot give.
        mean_weight: 1 in expectation where the log covers the policy; the part missing below 1 is
            the new policy's probability of lists that could not be logged.
        mean_weight_error: its standard error.
        largest_weight: of one request.
        clipped: share of weights above the cap.
        certain: share of requests with several candidates whose list was logged with probability
            1: nothing else could have been shown there.
    """

    requests: int
    effective: float
    effective_clicks: float
    impossible: float
    mean_weight: float
    mean_weight_error: float
    largest_weight: float
    clipped: float
    certain: float


def check_propensities(
    propensity: FloatArray | None, *, drop_unknown: bool = False
) -> NDArray[np.bool_]:
    """Which logged lists have a usable propensity.

    Args:
        propensity: [R] NaN where unknown; None if the log has no such column.
        drop_unknown: leave out requests without one instead of refusing the log.

    Returns:
        [R] True = use.

    Raises:
        DataError: no column, one outside (0, 1], or unknown ones that must not be left out.
    """
    if propensity is None:
        raise DataError(
            "the log has no column 'propensity', so nothing can be weighted; remedy: a log of lists "
            "drawn at a temperature (goalrank serve --temperature), which carry their probability"
        )
    known = ~np.isnan(propensity)
    bad = known & ~((propensity > 0) & (propensity <= 1))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"propensity {propensity[row]} in row {row} ({counted(int(bad.sum()), 'such row')}): a logged list "
            f"had a probability in (0, 1]; remedy: mend the log, goalrank data validate lists them"
        )
    if not known.all() and not drop_unknown:
        raise DataError(
            f"no propensity in {int((~known).sum()):,} of {counted(len(known), 'request')} (degraded answers, "
            f"or a policy that does not know it); remedy: --drop-unknown leaves them out, and the "
            f"estimates then speak of the others only"
        )
    if not known.any():
        raise DataError(
            f"none of {counted(len(known), 'request')} has a propensity; remedy: a log of lists drawn at a "
            f"temperature (goalrank serve --temperature)"
        )
    return known


def check_training_log(train: Mapping[str, Any], log: Requests, what: str) -> tuple[str, ...]:
    """What speaks against an estimate from this log because a model learned from it.

    A policy that was fitted to a log puts its weight on those lists whose logged feedback happened to
    be good, and a reward model has learned that feedback by heart: every estimator is then biased
    upwards, the doubly robust one too.

    Args:
        train: about the training, as a bundle keeps it.
        log: requests of the estimate.
        what: names the model in the sentence.
    """
    if "log" not in train:
        return (
            f"nobody knows what {what} was trained on (its bundle is of an earlier version, or was "
            f"made by hand): from its own training log every estimate is biased upwards",
        )
    trained = LogFingerprint.read(train["log"])
    share = trained.share_in(log)
    if share == 0:
        return ()
    return (
        f"{share:.0%} of the log's requests are among those that {what} was trained on ({trained}), "
        f"so that every estimate is biased upwards",
    )


def refuse_training_log(train: Mapping[str, Any], log: Requests, what: str) -> tuple[str, ...]:
    """Refuse a log that a model learned from.

    Args:
        train: about the training, as a bundle keeps it.
        log: requests of the estimate.
        what: names the model in the sentence.

    Returns:
        Doubts that are no reason to refuse.

    Raises:
        InfeasibleError: more than a hundredth of the log's requests were trained on.
    """
    doubts = check_training_log(train, log, what)
    if "log" in train and LogFingerprint.read(train["log"]).share_in(log) > _SEEN:
        raise InfeasibleError(
            f"{doubts[0]}; remedy: estimate from a log that was served later (goalrank data keeps the "
            f"last requests in test.parquet), or --allow-training-log to see numbers that are biased"
        )
    return doubts


def measure_support(logged: Logged, choices: NDArray[np.int64], cap: float) -> Support:
    """Numbers of the overlap; `choices` [R] is the number of candidates."""
    weight = logged.weight
    several = choices > 1
    certain = (logged.log_logging >= 0) & several
    n = len(weight)
    return Support(
        requests=n,
        effective=effective_size(weight),
        effective_clicks=effective_clicks(weight, logged.reward),
        impossible=float(np.isneginf(logged.log_target).mean()),
        mean_weight=float(weight.mean()),
        mean_weight_error=float(weight.std(ddof=1) / np.sqrt(n)) if n > 1 else float("inf"),
        largest_weight=float(weight.max()),
        clipped=float((weight > cap).mean()),
        certain=float(certain.sum() / max(int(several.sum()), 1)),
    )


def check_support(
    support: Support, *, min_effective: float, greedy: bool, min_clicks: float = 0.0
) -> tuple[str, ...]:
    """What speaks against an estimate from this log; empty if nothing does."""
    found = []
    if support.certain > 0:
        found.append(
            f"{support.certain:.0%} of the lists were logged with probability 1: their policy draws "
            f"nothing, so the log does not show what other lists would earn"
        )
    if support.effective < min_effective:
        hint = (
            "; the new policy is taken as greedy, which gives a logged list probability 0 or 1: a "
            "temperature makes it a policy that overlaps (option: temperature)"
            if greedy
            else ""
        )
        found.append(
            f"the effective sample size is {support.effective:.1f} of {counted(support.requests, 'request')}, "
            f"below {min_effective:g} (option: min-effective); {support.impossible:.0%} of the "
            f"logged lists are impossible under the new policy{hint}"
        )
    if support.effective_clicks < min_clicks:
        found.append(
            f"the estimates rest on {support.effective_clicks:.1f} answers of equal weight, below "
            f"{min_clicks:g} (option: min-clicks): with so few, intervals are too narrow"
        )
    short = 1 - support.mean_weight
    if short > _STANDARD_ERRORS * support.mean_weight_error and short > 1e-6:
        found.append(
            f"the weights average {support.mean_weight:.3g} ± {support.mean_weight_error:.2g} where "
            f"1 is due: about {short:.0%} of the new policy's lists could not be logged"
        )
    return tuple(found)


def refuse(reasons: tuple[str, ...]) -> None:
    """Raise on missing support.

    Raises:
        InfeasibleError: with every reason.
    """
    if reasons:
        raise InfeasibleError(
            f"support is missing: {'; '.join(reasons)}; remedy: log with more exploration, compare a "
            f"policy closer to the logged one, or --allow-weak-support to see numbers that may be "
            f"far off"
        )
