"""`evaluate_off_policy`: a bundle's value from another policy's log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import polars as pl

from goalrank.bundles import Bundle
from goalrank.constraints import Constraints
from goalrank.errors import ConfigError, DataError
from goalrank.evaluation.off_policy.estimators import (
    MODEL_BASED,
    Logged,
    OffPolicy,
    check_estimators,
    estimate,
    lower_bounds,
)
from goalrank.evaluation.off_policy.options import OffPolicyOptions
from goalrank.evaluation.off_policy.policy_value import (
    Array,
    Progress,
    TargetPolicy,
    Views,
    slot_rewards,
    view,
)
from goalrank.evaluation.off_policy.support import (
    check_propensities,
    check_support,
    check_training_log,
    measure_support,
    refuse,
    refuse_training_log,
)
from goalrank.evaluation.statistics.few_clusters import resample
from goalrank.requests import Requests
from goalrank.rewards import Reward
from goalrank.settings import checked

_AGREE = 1e-3  # relative: a logging bundle must give the logged propensities


def evaluate_off_policy(
    bundle: Bundle,
    log: Requests,
    *,
    model: Reward | None = None,
    logging: tuple[Bundle, float] | None = None,
    rules: Constraints | None = None,
    logging_rules: Constraints | None = None,
    progress: Progress | None = None,
    options: OffPolicyOptions | None = None,
    **given: Any,
) -> OffPolicy:
    """Estimate what the bundle's lists would have earned where the log's were shown.

    Args:
        bundle: the new policy; it is asked for as many items as were shown.
        log: requests with `propensity`; those with nothing shown are left out.
        model: reward model of the doubly robust estimate; None takes the bundle's, if it has one.
        logging: bundle and temperature that served the log, to recompute slot propensities where
            the log has none; it must give the logged list propensities back.
        rules: that the new policy's lists obey, as a server's rules for every list; columns are
            those of the log's items.
        logging_rules: that the logged lists obeyed, with `logging`.
        progress: called with (requests done, requests in all).
        options: see `OffPolicyOptions`.
        **given: fields of `OffPolicyOptions`, over those of `options`.

    Raises:
        ConfigError: an unknown estimator or kind, or a number out of range.
        DataError: propensities missing or impossible, or an estimator lacks its inputs.
        InfeasibleError: the log does not support the policy, or the bundle was trained on it; the
            message says why.
    """
    o = _options(options, given)
    check_estimators(o.estimators or (), o.cap)
    weights = o.reward if o.reward is not None else _target(log)
    table, left_out = _usable(log, o.drop_unknown)
    judge = check_training_log if o.allow_training_log else refuse_training_log
    doubts = judge(bundle.train, table, "the new policy")
    policy = TargetPolicy(bundle, o.temperature, rules or Constraints())
    served = None if logging is None else TargetPolicy(*logging, logging_rules or Constraints())
    model = model if model is not None else bundle.reward
    slots = _slot_logging(table, served, policy, o)
    model = model if o.estimators is None or set(MODEL_BASED) & set(o.estimators) else None
    seen = view(
        policy, table, model=model, weights=weights, prefixes=slots is not None, lists=o.lists,
        seed=o.seed, batch_size=o.batch_size, device=o.device, progress=progress,
    )  # fmt: skip
    logged = _logged(table, weights, seen, slots, model is not None)
    names = list(o.estimators) if o.estimators is not None else _possible(logged)
    choices = table.frame["candidates"].list.len().to_numpy()
    support = measure_support(logged, choices, o.cap)
    reasons = check_support(
        support, min_effective=o.min_effective, min_clicks=o.min_clicks,
        greedy=o.temperature is None,
    )  # fmt: skip
    if not o.allow_weak_support:
        refuse(reasons)
    resampler = resample(table.frame["user_id"].to_numpy(), o.unit, o.bootstrap, o.seed)
    own, estimates = estimate(logged, names, resampler, cap=o.cap)
    return OffPolicy(
        own,
        estimates,
        vars(support),
        {
            "reward": weights, "temperature": o.temperature, "policy": _words(policy), "cap": o.cap,
            "lists": o.lists, "left_out": left_out, "intervals": resampler.words(o.unit),
            "seed": o.seed, "min_effective": o.min_effective, "min_clicks": o.min_clicks,
        },
        lower_bounds(logged, resampler, cap=o.cap, most=_most(table, weights)),
        doubts + reasons + ((log.info.warning,) if log.info.warning else ()),
    )  # fmt: skip


def _options(options: OffPolicyOptions | None, given: Mapping[str, Any]) -> OffPolicyOptions:
    known = {} if options is None else options.model_dump(exclude_unset=True)
    return checked(
        OffPolicyOptions, known | dict(given), "the estimate", "see OffPolicyOptions for the rules"
    )


def _target(log: Requests) -> dict[str, float]:
    if log.info.target is None:
        raise ConfigError(
            f"the log names no target feedback; remedy: --reward KIND=WEIGHT with kinds of "
            f"{list(log.info.feedback_kinds)}; option: reward"
        )
    return {log.info.target: 1.0}


def _usable(log: Requests, drop_unknown: bool) -> tuple[Requests, int]:
    """Requests with a list and its propensity, and how many were left out."""
    if log.info.protocol != "exposed":
        raise DataError(
            f"this log's protocol is '{log.info.protocol}': nothing was really shown in it, so no "
            f"list earned anything; remedy: a log of exposures"
        )
    table = log.filter(pl.col("shown").list.len() > 0)
    if len(table) == 0:
        raise DataError("no request of the log was shown anything; remedy: a log of exposures")
    known = check_propensities(_propensity(table), drop_unknown=drop_unknown)
    table = table if known.all() else table.filter(pl.Series(known))
    return table, len(log) - len(table)


def _propensity(table: Requests) -> Array | None:
    if "propensity" not in table.frame.columns:
        return None
    return table.frame["propensity"].fill_null(float("nan")).to_numpy()


def _slot_logging(
    table: Requests,
    logging: TargetPolicy | None,
    policy: TargetPolicy,
    options: OffPolicyOptions,
) -> Array | None:
    """[R, S] log-probability of each prefix under the logging policy; None if not wanted or known.

    Raises:
        DataError: wanted by name and not to be had.
    """
    estimators = options.estimators
    wanted = estimators is None or any(name.startswith("position") for name in estimators)
    if not wanted:
        return None
    if not policy.stepwise:
        if estimators is None:
            return None
        raise DataError(
            f"ranker '{policy.bundle.config.name}' chooses whole lists, so a list's first items have "
            f"no probability of their own; remedy: estimators without 'position'; option: estimator"
        )
    if logging is not None:
        return _recomputed(table, logging, options)
    column = table.frame.get_column("slot_propensity", default=None)
    if column is not None and not column.null_count():
        return _prefixes(column)
    if estimators is None:
        return None
    raise DataError(
        "position-wise estimators need the probability of each shown item given those before it, "
        "but the log's slot_propensity is missing or has nulls; remedy: --logging BUNDLE with "
        "--logging-temperature recomputes it from the bundle that served the log"
    )


def _prefixes(column: pl.Series) -> Array:
    length = column.list.len().to_numpy()
    real = np.arange(int(length.max())) < length[:, None]
    out = np.zeros(real.shape)
    out[real] = np.log(column.explode(empty_as_null=False, keep_nulls=False).to_numpy())
    return out.cumsum(1)


def _recomputed(table: Requests, policy: TargetPolicy, options: OffPolicyOptions) -> Array:
    if not policy.stepwise:
        raise DataError(
            f"logging ranker '{policy.bundle.config.name}' chooses whole lists, so its slots have no "
            f"propensity; option: logging"
        )
    found = view(
        policy, table, prefixes=True, batch_size=options.batch_size, device=options.device
    ).prefix
    there = _propensity(table)
    off = np.abs(np.exp(found[:, -1] - np.log(there)) - 1) if there is not None else np.zeros(1)
    if (off > _AGREE).any():
        raise DataError(
            f"the logging bundle gives other propensities than the log's in {(off > _AGREE).mean():.0%} "
            f"of the requests; remedy: the bundle, temperature and rules that served them, or "
            f"leave out --logging"
        )
    return found


def _logged(
    table: Requests, weights: Mapping[str, float], seen: Views, slots: Array | None, model: bool
) -> Logged:
    rewards = slot_rewards(table, weights)
    propensity = cast(Array, _propensity(table))  # `_usable` refused logs without
    return Logged(
        reward=rewards.sum(1),
        log_target=seen.prefix[:, -1],
        log_logging=np.log(propensity),
        predicted=seen.predicted if model else None,
        baseline=seen.baseline if model else None,
        slot_reward=rewards,
        prefix_target=None if slots is None else seen.prefix,
        prefix_logging=slots,
    )


def _most(table: Requests, weights: Mapping[str, float]) -> float:
    """Largest reward of a list of the log, for kinds of feedback in [0, 1]."""
    slots = int(cast(int, table.frame["shown"].list.len().max()))
    return slots * sum(max(weight, 0.0) for weight in weights.values())


def _possible(logged: Logged) -> list[str]:
    names = ["ips", "snips", "clipped"]
    names += MODEL_BASED if logged.predicted is not None else []
    return names + (["position-ips", "position-snips"] if logged.prefix_logging is not None else [])


def _words(policy: TargetPolicy) -> str:
    name = policy.bundle.config.name + ("" if policy.rules.empty else " under rules")
    if policy.temperature is None:
        return f"{name}, greedy: a logged list has probability 0 or 1"
    return f"{name}, drawn at temperature {policy.temperature:g}"
