"""Lifts over control with intervals that know that requests of one user are not independent.

A metric is a ratio of averages, R = Σ y_u / Σ n_u over users u (n_u: their requests). Its variance
is the delta method's: that of the users' influences i_u = (y_u − R·n_u) / mean(n), over their
number. What users did before the test takes variance away (CUPED): with x_u the influence of the
pre-period, R − θ·(mean x of the arm − mean x of both arms), θ = cov(i, x) / var(x).
Sources: Deng, Knoblich, Lu, 2018 (delta method); Deng, Xu, Kohavi, Walker, 2013 (CUPED).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray

from goalrank.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class UserSums:
    """One metric of one arm's users; [U] each.

    Attributes:
        value: summed over a user's requests; requests: their number, >= 1.
        before, before_requests: of the pre-period, 0 where a user did not come; None without one.
    """

    value: Floats
    requests: Floats
    before: Floats | None = None
    before_requests: Floats | None = None


@dataclass(frozen=True)
class Estimate:
    """A number, its variance, and the ends of its interval."""

    value: float
    variance: float
    low: float
    high: float


@dataclass(frozen=True)
class Lift:
    """One metric of one arm against control; values are a request.

    Attributes:
        control, arm: the metric itself, adjusted by the pre-period where there is one.
        absolute: arm − control.
        relative: arm / control − 1.
        cuped: the pre-period took variance away.
    """

    control: float
    arm: float
    absolute: Estimate
    relative: Estimate
    cuped: bool


def compare(control: UserSums, arm: UserSums, confidence: float = 0.95) -> Lift:
    """The lift of an arm over control.

    Raises:
        DataError: fewer than two users in an arm, or nothing at all in control.
    """
    if min(len(control.value), len(arm.value)) < 2:
        raise DataError(
            f"arms of {len(control.value)} and {len(arm.value)} users give no interval; remedy: "
            f"more users or requests, so that each arm has at least two (option: requests)"
        )
    parts, cuped = _adjusted(control, arm)
    (a, var_a), (b, var_b) = parts
    if a <= 0:
        raise DataError(f"control's metric is {a:g}, so there is no relative lift over it")
    relative = var_b / a**2 + b**2 * var_a / a**4
    return Lift(
        a, b, _estimate(b - a, var_a + var_b, confidence),
        _estimate(b / a - 1, relative, confidence), cuped,
    )  # fmt: skip


def over_seeds(estimates: Sequence[Estimate], confidence: float = 0.95) -> Estimate:
    """Mean over independent repetitions, and its interval from their own variances."""
    count = len(estimates)
    mean = sum(e.value for e in estimates) / count
    return _estimate(mean, sum(e.variance for e in estimates) / count**2, confidence)


def size_p_value(users: Sequence[int], weights: Sequence[float]) -> float:
    """p-value of the arms' numbers of users against their weights (chi-square, all at once)."""
    share = np.asarray(weights, float) / sum(weights)
    seen = np.asarray(users, float)
    expected = share * seen.sum()
    statistic = float((((seen - expected) ** 2) / expected).sum())
    half = torch.tensor([(len(users) - 1) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


def _estimate(value: float, variance: float, confidence: float) -> Estimate:
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(variance)
    return Estimate(value, variance, value - reach, value + reach)


def _influence(value: Floats, requests: Floats) -> tuple[float, Floats]:
    """R and each user's influence on it, which sum to 0."""
    ratio = value.sum() / requests.sum()
    return float(ratio), (value - ratio * requests) / requests.mean()


def _adjusted(control: UserSums, arm: UserSums) -> tuple[list[tuple[float, float]], bool]:
    """(R, variance) of both arms, after CUPED where it can be had."""
    plain = [_influence(each.value, each.requests) for each in (control, arm)]
    shifts = _shifts([i for _, i in plain], control, arm)
    out = []
    for (ratio, influence), x in zip(plain, shifts or [np.zeros(1)] * 2, strict=True):
        left = influence - (x - x.mean())
        out.append((ratio - float(x.mean()), float((left**2).sum()) / (len(left) - 1) / len(left)))
    return out, shifts is not None


def _shifts(influence: list[Floats], control: UserSums, arm: UserSums) -> list[Floats] | None:
    """θ · x_u of both arms' users, x centred over both; None without a useful pre-period."""
    if control.before is None or arm.before is None:
        return None
    assert control.before_requests is not None
    assert arm.before_requests is not None
    value = np.concatenate([control.before, arm.before])
    requests = np.concatenate([control.before_requests, arm.before_requests])
    if requests.sum() == 0:
        return None
    _, x = _influence(value, requests)
    spread = float((x**2).sum())
    if spread <= 0:
        return None
    theta = float((np.concatenate(influence) * x).sum()) / spread
    cut = len(control.value)
    return [theta * x[:cut], theta * x[cut:]]
