"""Lower confidence bounds of a bounded mean that hold for any sample, however small or skewed.

A bootstrap of a mean that rests on few clicks is too narrow: its percentiles know only the clicks that
happened. A bet cannot be: whoever bets against "the mean is at most m" at fair odds multiplies the
stake by 1/α with a probability of at most α (Ville's inequality), whatever the distribution within
its range and whenever one looks.

Source: Waudby-Smith & Ramdas, 2023, "Estimating means of bounded random variables by betting"
(predictable plug-in bets, one-sided).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from goalrank.errors import DataError
from goalrank.evaluation.statistics.bootstrap import FloatArray

_BISECTIONS = 40
_MOST_STAKED = 0.5  # of what a bet can lose: 1 + λ (x - m) stays at 1/2 or more


def betting_lower_bound(
    values: FloatArray, low: float, high: float, *, alpha: float, seed: int
) -> float:
    """Lower bound of the mean of independent values, below it with probability at most alpha.

    Args:
        values: [n] in [low, high], in any order: the bets are placed in a random one.
        low: least possible value, known beforehand and not taken from the values.
        high: largest possible value, likewise.
        alpha: in (0, 1).
        seed: of the order.

    Returns:
        The bound; `low` where nothing better can be said.

    Raises:
        DataError: values outside their range.
    """
    if len(values) == 0:
        return low
    if values.min() < low or values.max() > high:
        raise DataError(
            f"values from {values.min():g} to {values.max():g} lie outside [{low:g}, {high:g}], the "
            f"range that the bound was given; remedy: the true range of the reward"
        )
    x = (np.random.default_rng(seed).permutation(values) - low) / (high - low)
    bets = _bets(x, alpha)
    least, most = 0.0, float(x.mean())
    for _ in range(_BISECTIONS):
        middle = (least + most) / 2
        if _log_wealth(x, bets, middle) >= np.log(1 / alpha):
            least = middle
        else:
            most = middle
    return low + (high - low) * least


def user_lower_bound(
    values: FloatArray,
    clusters: NDArray[np.int64],
    low: float,
    high: float,
    *,
    alpha: float,
    seed: int,
) -> float:
    """`betting_lower_bound` of a mean over requests whose users are the independent part.

    A user's value is the sum over their requests, which lies in the range times the most requests of
    one user; the number of requests per user is taken as given.

    Args:
        values: [R] in [low, high].
        clusters: [R] 0…U-1, the user of each request.
        low: least possible value, at most 0.
        high: largest possible value, at least 0.
        alpha: in (0, 1).
        seed: of the order of the bets.
    """
    requests = np.bincount(clusters)
    sums = np.bincount(clusters, weights=values).astype(np.float64)
    most = int(requests.max(initial=1))
    bound = betting_lower_bound(sums, most * low, most * high, alpha=alpha, seed=seed)
    return bound / float(requests.mean())


def _bets(x: FloatArray, alpha: float) -> FloatArray:
    """[n] λ, each from the values before it alone."""
    n = np.arange(1, len(x) + 1)
    mean = (0.5 + np.cumsum(x)) / (n + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (n + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    bets: FloatArray = np.sqrt(2 * np.log(1 / alpha) / (len(x) * before))
    return bets


def _log_wealth(x: FloatArray, bets: FloatArray, m: float) -> float:
    """Log of what 1 has become by betting that the mean is above m."""
    staked = np.minimum(bets, _MOST_STAKED / max(m, 1e-12))
    return float(np.log1p(staked * (x - m)).sum())
