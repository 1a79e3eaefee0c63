"""Lifts over control, with intervals that account for several requests of one user.

A metric is a ratio of sums, R = Σ y_u / Σ n_u over users u (n_u: their requests). Its variance is
that of the delta method: the variance of the users' influences i_u = (y_u − R·n_u) / mean(n),
divided by the number of users. What users did before the test reduces the variance (CUPED): with
x_u the influence in the pre-period, the metric is R − θ·(mean x of the arm − mean x of both arms),
θ = cov(i, x) / var(x).
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
from goalrank.evaluation import t_quantile

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class UserSums:
    """One metric of the users of one arm; each attribute is [U].

    Attributes:
        value: the metric, summed over the requests of a user.
        requests: number of requests of a user, >= 1.
        before: the metric in the pre-period, 0 for users who did not come; None without one.
        before_requests: number of requests in the pre-period; None without one.
    """

    value: Floats
    requests: Floats
    before: Floats | None = None
    before_requests: Floats | None = None


@dataclass(frozen=True)
class Estimate:
    """Estimate with its interval.

    Attributes:
        value: the estimate.
        variance: of the estimate.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    variance: float
    low: float
    high: float


@dataclass(frozen=True)
class Lift:
    """Comparison of an arm with control by one metric; values are per request.

    Attributes:
        control: the metric of control, adjusted by the pre-period if there is one.
        arm: the metric of the arm, adjusted in the same way.
        absolute: arm − control.
        relative: arm / control − 1.
        cuped: whether the pre-period was used to reduce the variance.
    """

    control: float
    arm: float
    absolute: Estimate
    relative: Estimate
    cuped: bool


def compare(control: UserSums, arm: UserSums, confidence: float = 0.95) -> Lift:
    """Estimate the lift of an arm over control.

    Args:
        control: users of control.
        arm: users of the arm.
        confidence: of the intervals, in (0, 1).

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
    """Average estimates of independent repetitions.

    The spread of the repetitions holds both what another seed changes (other models, another
    history of the test) and what other users change, since each has users of its own. With two or
    more, the interval is Student's t over them, with the variance that users alone give where the
    spread happens to be smaller. One repetition has the variance over users alone, and its interval
    says nothing about another seed.

    Args:
        estimates: one per repetition, at least one.
        confidence: of the interval, in (0, 1).
    """
    values, within = (np.array([getattr(e, n) for e in estimates]) for n in ("value", "variance"))
    if len(values) == 1:
        return _estimate(float(values[0]), float(within[0]), confidence)
    variance = max(float(values.var(ddof=1)), float(within.mean())) / len(values)
    reach = float(t_quantile((1 + confidence) / 2, len(values) - 1)) * math.sqrt(variance)
    mean = float(values.mean())
    return Estimate(mean, variance, mean - reach, mean + reach)


def size_p_value(users: Sequence[int], weights: Sequence[float]) -> float:
    """Test whether the arms have the numbers of users that their weights predict (chi-square).

    Args:
        users: number of users per arm.
        weights: weight of each arm.

    Returns:
        The p-value, one for all arms together.
    """
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
    """Compute R and the users' influences on it, which sum to 0."""
    ratio = value.sum() / requests.sum()
    return float(ratio), (value - ratio * requests) / requests.mean()


def _adjusted(control: UserSums, arm: UserSums) -> tuple[list[tuple[float, float]], bool]:
    """Compute (R, variance) of both arms, adjusted by CUPED if there is a pre-period."""
    plain = [_influence(each.value, each.requests) for each in (control, arm)]
    shifts = _shifts([i for _, i in plain], control, arm)
    out = []
    for (ratio, influence), x in zip(plain, shifts or [np.zeros(1)] * 2, strict=True):
        left = influence - (x - x.mean())
        out.append((ratio - float(x.mean()), float((left**2).sum()) / (len(left) - 1) / len(left)))
    return out, shifts is not None


def _shifts(influence: list[Floats], control: UserSums, arm: UserSums) -> list[Floats] | None:
    """Compute θ · x_u of the users of both arms, x centred over both; None without a pre-period."""
    before = [each.before for each in (control, arm) if each.before is not None]
    counts = [each.before_requests for each in (control, arm) if each.before_requests is not None]
    if len(before) < 2 or len(counts) < 2:
        return None
    requests = np.concatenate(counts)
    if requests.sum() == 0:
        return None
    _, x = _influence(np.concatenate(before), requests)
    variation = float((x**2).sum())
    if variation <= 0:
        return None
    theta = float((np.concatenate(influence) * x).sum()) / variation
    cut = len(control.value)
    return [theta * x[:cut], theta * x[cut:]]
