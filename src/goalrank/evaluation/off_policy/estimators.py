"""What a new policy would have earned, estimated from lists that another policy showed.

Everything rests on the weight w = π(list) / β(list) of a logged list: its probability under the new
policy over the probability with which it was logged. The estimators are pure functions of R logged
lists; each is a sum of ratios of means, so that one bootstrap serves them all.

Sources: Horvitz & Thompson, 1952 (IPS); Swaminathan & Joachims, 2015, "The self-normalized estimator
for counterfactual learning" (SNIPS); Ionides, 2008 (clipping); Dudík, Langford & Li, 2011 (doubly
robust); McInerney et al., 2020, "Counterfactual evaluation of slate recommendations with sequential
reward interactions" (position-wise); Kish, 1965 (effective sample size).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from goalrank.errors import ConfigError, DataError
from goalrank.evaluation.statistics.bootstrap import FloatArray, Interval, Resampler


@dataclass(frozen=True)
class Logged:
    """R logged lists of at most S slots, as the new policy sees them.

    Attributes:
        reward: [R] what each list earned.
        log_target: [R] log-probability of the list under the new policy; -inf if impossible.
        log_logging: [R] log-probability with which it was logged; finite.
        predicted: [R] reward model's value of the logged list.
        baseline: [R] its mean under the new policy, given the request.
        slot_reward: [R, S] what each slot earned, 0 in empty slots; sums to `reward`.
        prefix_target, prefix_logging: [R, S] log-probabilities of the list's first t + 1 items; a
            list that has ended keeps its last value.
    """

    reward: FloatArray
    log_target: FloatArray
    log_logging: FloatArray
    predicted: FloatArray | None = None
    baseline: FloatArray | None = None
    slot_reward: FloatArray | None = None
    prefix_target: FloatArray | None = None
    prefix_logging: FloatArray | None = None

    @property
    def weight(self) -> FloatArray:
        """[R] w."""
        return np.exp(self.log_target - self.log_logging)


@dataclass(frozen=True)
class Terms:
    """An estimate Σ_j mean(top_j) / mean(bottom_j), request by request: [R, J] each."""

    top: FloatArray
    bottom: FloatArray

    @property
    def value(self) -> float:
        """The estimate."""
        return float((self.top.mean(0) / self.bottom.mean(0)).sum())


def ips(logged: Logged, cap: float = np.inf) -> Terms:
    """mean(w · r): without bias where β covers π, with the largest variance."""
    return _plain(logged.weight * logged.reward)


def snips(logged: Logged, cap: float = np.inf) -> Terms:
    """Σ w · r / Σ w: follows a shift of all rewards exactly; its bias vanishes as 1 / R."""
    weight = logged.weight[:, None]
    return Terms(weight * logged.reward[:, None], weight)


def clipped(logged: Logged, cap: float = np.inf) -> Terms:
    """mean(min(w, cap) · r): less variance, and biased towards 0 by what is above the cap."""
    return _plain(np.minimum(logged.weight, cap) * logged.reward)


def doubly_robust(logged: Logged, cap: float = np.inf) -> Terms:
    """mean(E_π[q] + w · (r - q)): without bias if either the weights or the model q are right."""
    if logged.predicted is None or logged.baseline is None:
        raise DataError(
            "doubly robust needs a reward model's values; remedy: a bundle with its reward, or "
            "estimators without 'dr'; option: estimator"
        )
    return _plain(logged.baseline + logged.weight * (logged.reward - logged.predicted))


def position_ips(logged: Logged, cap: float = np.inf) -> Terms:
    """Σ_t mean(w_≤t · r_t): right where a slot's answer depends on earlier slots, not later ones."""
    weight, reward = _prefixes(logged)
    return Terms(weight * reward, np.ones_like(weight))


def position_snips(logged: Logged, cap: float = np.inf) -> Terms:
    """Σ_t Σ w_≤t · r_t / Σ w_≤t: each slot normalised by its own weights."""
    weight, reward = _prefixes(logged)
    return Terms(weight * reward, weight)


ESTIMATORS: dict[str, Callable[[Logged, float], Terms]] = {
    "ips": ips,
    "snips": snips,
    "clipped": clipped,
    "dr": doubly_robust,
    "position-ips": position_ips,
    "position-snips": position_snips,
}


@dataclass(frozen=True)
class Estimate:
    """One estimator's answer.

    Attributes:
        value: of the new policy, per request, with its interval.
        gain: `value` less the mean reward in the log, with the interval of the difference.
    """

    value: Interval
    gain: Interval


@dataclass(frozen=True)
class OffPolicy:
    """What a log says about a new policy.

    Attributes:
        logged: mean reward of the log itself.
        estimates: by estimator.
        support: see `goalrank.evaluation.Support`, as plain values.
        settings: what the numbers rest on.
        warnings: reasons for doubt that were overruled or are worth knowing.
    """

    logged: Interval
    estimates: dict[str, Estimate]
    support: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def effective_size(weight: FloatArray) -> float:
    """(Σ w)² / Σ w²: how many requests logged by the new policy itself would say as much."""
    square = float((weight**2).sum())
    return float(weight.sum()) ** 2 / square if square > 0 else 0.0


def estimate(
    logged: Logged, names: Sequence[str], resampler: Resampler, *, cap: float = 10.0
) -> tuple[Interval, dict[str, Estimate]]:
    """Estimates with 95 % intervals, all from the same resamples.

    Args:
        logged: rewards and probabilities of R logged lists.
        names: keys of `ESTIMATORS`.
        resampler: clusters [R]; requests of one user belong to one cluster.
        cap: largest weight of the clipped estimator.

    Returns:
        the log's own mean reward, and an estimate per name.

    Raises:
        ConfigError: an unknown name, or a cap that is not above 0.
        DataError: an estimator lacks its columns.
    """
    check_estimators(names, cap)
    terms = {name: ESTIMATORS[name](logged, cap) for name in names}
    columns = [logged.reward[:, None]]
    columns += [part for each in terms.values() for part in (each.top, each.bottom)]
    drawn = resampler.means(np.concatenate(columns, 1))
    base, at = drawn[:, 0], 1
    own = float(logged.reward.mean())
    out = {}
    for name, each in terms.items():
        width = each.top.shape[1]
        top, bottom = drawn[:, at : at + width], drawn[:, at + width : at + 2 * width]
        with np.errstate(invalid="ignore", divide="ignore"):
            values = (top / bottom).sum(1)
        at += 2 * width
        out[name] = Estimate(
            _interval(resampler, each.value, values),
            _interval(resampler, each.value - own, values - base),
        )
    return _interval(resampler, own, base), out


def check_estimators(names: Sequence[str], cap: float) -> None:
    """Refuse unknown estimators and a cap that clips everything away.

    Raises:
        ConfigError: see above.
    """
    if unknown := [name for name in names if name not in ESTIMATORS]:
        raise ConfigError(
            f"estimators {unknown} are unknown; choose from {list(ESTIMATORS)}; option: estimator"
        )
    if not cap > 0:
        raise ConfigError(f"cap is {cap}, but weights are clipped above 0 only; option: cap")


def _plain(values: FloatArray) -> Terms:
    return Terms(values[:, None], np.ones((len(values), 1)))


def _prefixes(logged: Logged) -> tuple[FloatArray, FloatArray]:
    target, logging, reward = logged.prefix_target, logged.prefix_logging, logged.slot_reward
    if target is None or logging is None or reward is None:
        raise DataError(
            "position-wise estimators need the probability of each slot's item; remedy: a log with "
            "the column slot_propensity, or the bundle that served it; option: logging"
        )
    return np.exp(target - logging), reward


def _interval(resampler: Resampler, value: float, drawn: FloatArray) -> Interval:
    low, high = resampler.ends(np.array([value]), drawn[:, None])[:, 0]
    return Interval(value, float(low), float(high))
