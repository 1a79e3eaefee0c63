"""What a new policy would have earned, estimated from lists that another policy showed.

Everything rests on the weight w = π(list) / β(list) of a logged list: its probability under the new
policy over the probability with which it was logged. The estimators are pure functions of R logged
lists; each is a sum of ratios of means, so that one bootstrap serves them all.

Sources: Horvitz & Thompson, 1952 (IPS); Swaminathan & Joachims, 2015, "The self-normalized estimator
for counterfactual learning" (SNIPS); Ionides, 2008 (clipping); Dudík, Langford & Li, 2011 (doubly
robust); Thomas & Brunskill, 2016 (self-normalised doubly robust); Wang, Agarwal & Dudík, 2017
(switch); Li et al., 2018, "Offline evaluation of ranking policies with click models" (independent);
Kiyohara et al., 2022 (cascade doubly robust); McInerney et al., 2020, "Counterfactual evaluation of slate recommendations with sequential
reward interactions" (position-wise); Kish, 1965 (effective sample size).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from goalrank.errors import ConfigError, DataError
from goalrank.evaluation.statistics.bootstrap import LEVEL, FloatArray, Interval, Resampler
from goalrank.evaluation.statistics.lower_bounds import user_lower_bound


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
        slot_predicted: [R, S] model's value of slot t given the list's first t + 1 items (of the
            slot, or of it and all later ones), 0 in empty slots.
        slot_baseline: [R, S] its mean over the new policy's item of slot t, given the items before.
        item_target, item_logging: [R, S] log-probabilities of the shown item at its slot, whatever
            stands before it; 0 in empty slots.
    """

    reward: FloatArray
    log_target: FloatArray
    log_logging: FloatArray
    predicted: FloatArray | None = None
    baseline: FloatArray | None = None
    slot_reward: FloatArray | None = None
    prefix_target: FloatArray | None = None
    prefix_logging: FloatArray | None = None
    slot_predicted: FloatArray | None = None
    slot_baseline: FloatArray | None = None
    item_target: FloatArray | None = None
    item_logging: FloatArray | None = None

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


def direct_method(logged: Logged, cap: float = np.inf) -> Terms:
    """mean(E_π[q]): no weights, so no variance from them, and all of the model's bias."""
    return _plain(_model(logged)[1])


def doubly_robust(logged: Logged, cap: float = np.inf) -> Terms:
    """mean(E_π[q] + w · (r - q)): without bias if the weights are right, or a q not fitted to this log."""
    predicted, baseline = _model(logged)
    return _plain(baseline + logged.weight * (logged.reward - predicted))


def self_normalised_dr(logged: Logged, cap: float = np.inf) -> Terms:
    """mean(E_π[q]) + Σ w · (r - q) / Σ w: as `dr`, with steadier corrections."""
    predicted, baseline = _model(logged)
    weight = logged.weight
    return Terms(
        np.stack([baseline, weight * (logged.reward - predicted)], 1),
        np.stack([np.ones_like(weight), weight], 1),
    )


def switch_dr(logged: Logged, cap: float = np.inf) -> Terms:
    """mean(E_π[q] + 1[w ≤ cap] · w · (r - q)): the model alone where a weight is above the cap."""
    predicted, baseline = _model(logged)
    weight = np.where(logged.weight <= cap, logged.weight, 0.0)
    return _plain(baseline + weight * (logged.reward - predicted))


def independent_ips(logged: Logged, cap: float = np.inf) -> Terms:
    """Σ_t mean(w_t · r_t), w_t of the item at slot t: right where a slot's answer depends on no other."""
    target, logging, reward = logged.item_target, logged.item_logging, logged.slot_reward
    if target is None or logging is None or reward is None:
        raise DataError(
            "independent-ips needs each item's probability at its slot, whatever stands before it, "
            "which logs of lists do not hold; remedy: Logged(item_target=…, item_logging=…) where "
            "it is known, or position-ips; option: estimator"
        )
    terms = np.exp(target - logging) * reward
    return Terms(terms, np.ones_like(terms))


def cascade_dr(logged: Logged, cap: float = np.inf) -> Terms:
    """Σ_t mean(w_≤t · (r_t - q_t) + w_<t · E_π[q_t]): as position-ips, with a model's help."""
    weight, reward = _prefixes(logged)
    predicted, baseline = logged.slot_predicted, logged.slot_baseline
    if predicted is None or baseline is None:
        raise DataError(
            "cascade-dr needs a model's value of each slot; remedy: Logged(slot_predicted=…, "
            "slot_baseline=…), or position-ips; option: estimator"
        )
    before = np.concatenate([np.ones_like(weight[:, :1]), weight[:, :-1]], 1)
    terms = weight * (reward - predicted) + before * baseline
    return Terms(terms, np.ones_like(terms))


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
    "dm": direct_method,
    "dr": doubly_robust,
    "sndr": self_normalised_dr,
    "switch-dr": switch_dr,
    "position-ips": position_ips,
    "position-snips": position_snips,
    "independent-ips": independent_ips,
    "cascade-dr": cascade_dr,
}
# Their means miss the policy's value by what is cut off or by the model's error, which no resampling
# shows: they have no interval.
BIASED = ("clipped", "dm", "switch-dr")
MODEL_BASED = ("dm", "dr", "sndr", "switch-dr")


@dataclass(frozen=True)
class Estimate:
    """One estimator's answer.

    Attributes:
        value: of the new policy, per request, with its interval; its ends are NaN for the
            estimators of `BIASED`.
        gain: `value` less the mean reward in the log, with the interval of the difference.
    """

    value: Interval
    gain: Interval


@dataclass(frozen=True)
class LowerBounds:
    """What the new policy earns at least, with a confidence of 95 %, for any sample size.

    They rest on weights cut at the cap, which errs downwards alone where rewards are not negative.
    Source: Thomas, Theocharous & Ghavamzadeh, 2015, "High-confidence off-policy evaluation".

    Attributes:
        value: of the new policy, per request.
        gain: of it less the log's own policy.
    """

    value: float
    gain: float


@dataclass(frozen=True)
class OffPolicy:
    """What a log says about a new policy.

    Attributes:
        logged: mean reward of the log itself.
        estimates: by estimator.
        support: see `goalrank.evaluation.Support`, as plain values.
        settings: what the numbers rest on.
        lower: see `LowerBounds`; None where the range of rewards is not known.
        warnings: reasons for doubt that were overruled or are worth knowing.
    """

    logged: Interval
    estimates: dict[str, Estimate]
    support: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    lower: LowerBounds | None = None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def effective_size(weight: FloatArray) -> float:
    """(Σ w)² / Σ w²: how many requests logged by the new policy itself would say as much."""
    square = float((weight**2).sum())
    return float(weight.sum()) ** 2 / square if square > 0 else 0.0


def effective_clicks(weight: FloatArray, reward: FloatArray) -> float:
    """(Σ w·r)² / Σ (w·r)²: on how many answers of equal weight an estimate rests."""
    return effective_size(np.abs(weight * reward))


def lower_bounds(
    logged: Logged, resampler: Resampler, *, cap: float, most: float
) -> LowerBounds | None:
    """Lower bounds of the new policy's value and gain, by betting.

    Args:
        logged: rewards and probabilities of R logged lists.
        resampler: its clusters are the independent part.
        cap: largest weight; larger ones are cut.
        most: largest possible reward of a list, known beforehand.

    Returns:
        The bounds; None where a reward lies outside [0, most], so that its range is not known.
    """
    reward = logged.reward
    if reward.min(initial=0.0) < 0 or reward.max(initial=0.0) > most:
        return None
    weight = np.minimum(logged.weight, cap)

    def bound(values: FloatArray, low: float, high: float) -> float:
        return user_lower_bound(
            values, resampler.clusters, low, high, alpha=1 - LEVEL, seed=resampler.seed
        )

    value = bound(weight * reward, 0.0, cap * most)
    return LowerBounds(value, bound((weight - 1) * reward, -most, max(cap - 1, 0.0) * most))


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
        if name in BIASED:
            values = np.full_like(values, np.nan)
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


def _model(logged: Logged) -> tuple[FloatArray, FloatArray]:
    if logged.predicted is None or logged.baseline is None:
        raise DataError(
            "direct method and doubly robust need a reward model's values; remedy: a bundle with its "
            "reward, or other estimators; option: estimator"
        )
    return logged.predicted, logged.baseline


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
    low, high = np.nan, np.nan
    if np.isfinite(drawn).any():
        low, high = resampler.ends(np.array([value]), drawn[:, None])[:, 0]
    return Interval(value, float(low), float(high))
