"""`off_policy`: a bundle's value from another policy's log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch

from goalrank.bundles import Bundle
from goalrank.constraints import Constraints
from goalrank.errors import ConfigError, DataError
from goalrank.evaluation.off_policy.estimators import (
    Logged,
    OffPolicy,
    check_estimators,
    estimate,
)
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
    measure_support,
    refuse,
)
from goalrank.evaluation.statistics.bootstrap import (
    Resampler,
)
from goalrank.requests import Requests
from goalrank.rewards import Reward

_FEWEST_USERS = 30  # below this a cluster bootstrap is too coarse to mean anything
_AGREE = 1e-3  # relative: a logging bundle must give the logged propensities


def evaluate_off_policy(
    bundle: Bundle,
    log: Requests,
    *,
    reward: Mapping[str, float] | None = None,
    estimators: Sequence[str] | None = None,
    temperature: float | None = None,
    model: Reward | None = None,
    logging: tuple[Bundle, float] | None = None,
    rules: Constraints | None = None,
    logging_rules: Constraints | None = None,
    lists: int = 16,
    cap: float = 10.0,
    min_effective: float = 50.0,
    allow_weak_support: bool = False,
    drop_unknown: bool = False,
    bootstrap: int = 1000,
    seed: int = 0,
    unit: str = "user",
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> OffPolicy:
    """Estimate what the bundle's lists would have earned where the log's were shown.

    Args:
        bundle: the new policy; it is asked for as many items as were shown.
        log: requests with `propensity`; those with nothing shown are left out.
        reward: weight of each feedback kind in a list's reward, summed over slots; None is the
            log's target with weight 1.
        estimators: keys of `goalrank.evaluation.ESTIMATORS`; None takes all that the log, the
            bundle and the model allow.
        temperature: None takes the best list, as serving does by default, so a logged list has
            probability 0 or 1; a number draws lists from the policy softened by it.
        model: reward model of the doubly robust estimate; None takes the bundle's, if it has one.
        logging: bundle and temperature that served the log, to recompute slot propensities where
            the log has none; it must give the logged list propensities back.
        rules: that the new policy's lists obey, as a server's rules for every list; columns are
            those of the log's items.
        logging_rules: that the logged lists obeyed, with `logging`.
        lists: drawn a request for the model's mean under the new policy.
        cap: largest weight of the clipped estimator.
        min_effective: refuse an effective sample size below this.
        allow_weak_support: warn instead of refusing.
        drop_unknown: leave out requests without a propensity instead of refusing the log.
        bootstrap: resamples.
        seed: of draws and resamples.
        unit: "user" resamples users with all their requests ("request" if fewer than 30 users).
        batch_size, device: as in `Bundle.rank`.
        progress: called with (requests done, requests in all).

    Raises:
        ConfigError: an unknown estimator or kind, or a number out of range.
        DataError: propensities missing or impossible, or an estimator lacks its inputs.
        InfeasibleError: the log does not support the policy; the message says why.
    """
    _check(temperature, lists, bootstrap, unit)
    check_estimators(estimators or (), cap)
    weights = dict(reward) if reward is not None else _target(log)
    table, left_out = _usable(log, drop_unknown)
    policy = TargetPolicy(bundle, temperature, rules or Constraints())
    served = None if logging is None else TargetPolicy(*logging, logging_rules or Constraints())
    model = model if model is not None else bundle.reward
    slots = _slot_logging(table, served, policy, estimators, batch_size, device)
    model = model if estimators is None or "dr" in estimators else None
    seen = view(
        policy, table, model=model, weights=weights, prefixes=slots is not None, lists=lists,
        seed=seed, batch_size=batch_size, device=device, progress=progress,
    )  # fmt: skip
    logged = _logged(table, weights, seen, slots, model is not None)
    names = list(estimators) if estimators is not None else _possible(logged)
    choices = table.frame["candidates"].list.len().to_numpy()
    support = measure_support(logged, choices, cap)
    reasons = check_support(support, min_effective=min_effective, greedy=temperature is None)
    if not allow_weak_support:
        refuse(reasons)
    clusters, unit = _clusters(table, unit)
    own, estimates = estimate(logged, names, Resampler(clusters, bootstrap, seed), cap=cap)
    return OffPolicy(
        own,
        estimates,
        vars(support),
        {
            "reward": weights, "temperature": temperature, "policy": _words(policy), "cap": cap,
            "lists": lists, "left_out": left_out, "resamples": bootstrap, "resampled": unit,
            "seed": seed, "min_effective": min_effective,
        },
        reasons + ((log.info.warning,) if log.info.warning else ()),
    )  # fmt: skip


def _check(temperature: float | None, lists: int, bootstrap: int, unit: str) -> None:
    if temperature is not None and not (temperature > 0 and math.isfinite(temperature)):
        raise ConfigError(
            f"temperature is {temperature}, but must be above 0; remedy: leave it out for the best "
            f"list; option: temperature"
        )
    for name, value in (("lists", lists), ("bootstrap", bootstrap)):
        if value < 1:
            raise ConfigError(f"{name} is {value}, but must be at least 1; option: {name}")
    if unit not in ("user", "request"):
        raise ConfigError(f"unit is '{unit}', but must be 'user' or 'request'; option: unit")


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
    estimators: Sequence[str] | None,
    batch_size: int,
    device: torch.device | str,
) -> Array | None:
    """[R, S] log-probability of each prefix under the logging policy; None if not wanted or known.

    Raises:
        DataError: wanted by name and not to be had.
    """
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
        return _recomputed(table, logging, batch_size, device)
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


def _recomputed(
    table: Requests, policy: TargetPolicy, batch_size: int, device: torch.device | str
) -> Array:
    if not policy.stepwise:
        raise DataError(
            f"logging ranker '{policy.bundle.config.name}' chooses whole lists, so its slots have no "
            f"propensity; option: logging"
        )
    found = view(policy, table, prefixes=True, batch_size=batch_size, device=device).prefix
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
    propensity = _propensity(table)
    assert propensity is not None  # `_usable` refused the others
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


def _possible(logged: Logged) -> list[str]:
    names = ["ips", "snips", "clipped"]
    names += ["dr"] if logged.predicted is not None else []
    return names + (["position-ips", "position-snips"] if logged.prefix_logging is not None else [])


def _clusters(table: Requests, unit: str) -> tuple[Any, str]:
    users, cluster = np.unique(table.frame["user_id"].to_numpy(), return_inverse=True)
    if unit == "user" and len(users) >= _FEWEST_USERS:
        return cluster.astype(np.int64), "user"
    return np.arange(len(table)), "request"


def _words(policy: TargetPolicy) -> str:
    name = policy.bundle.config.name + ("" if policy.rules.empty else " under rules")
    if policy.temperature is None:
        return f"{name}, greedy: a logged list has probability 0 or 1"
    return f"{name}, drawn at temperature {policy.temperature:g}"
