"""Intervals and p-values that stay valid however often, and whenever, an experiment is looked at.

A fixed-sample test looked at every day rings falsely far more often than its level says. Here the
interval is a confidence sequence: with probability 1 - α it holds the true lift at all looks at
once. It is Robbins' normal mixture, in the asymptotic form of Waudby-Smith, Arbour, Sinha, Kennedy
& Ramdas, 2024, "Time-uniform central limit theory and asymptotic confidence sequences" (Annals of
Statistics), with the mixing of Johari, Koomen, Pekelis & Walsh, 2022, "Always valid inference"
(Operations Research). The clock is the information V = 1 / SE², so it runs as fast as the data say,
also where units come back and their values grow.

The guarantee is asymptotic: it needs the normal approximation at the first look, so do not look
before each arm has some hundred units.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

from goalrank.errors import ConfigError


class AlwaysValid(NamedTuple):
    """A lift's interval, and the p-value of no lift, both valid at any time."""

    low: float
    high: float
    p_value: float


def always_valid(
    lift: float, low: float, high: float, *, confidence: float, expected: float
) -> AlwaysValid:
    """Widen a fixed-sample interval of a lift to one that holds at all looks.

    With z = ln(1 + lift) / SE, V = 1 / SE² and mixing variance τ²::

        half-width = SE · sqrt((1 + Vτ²) / (Vτ²) · (ln(1 + Vτ²) + 2 ln(1 / α)))
        p = min(1, sqrt(1 + Vτ²) · exp(-z² / 2 · Vτ² / (1 + Vτ²)))

    Args:
        lift: relative difference of two means, above -1.
        low, high: its normal interval at `confidence`, symmetric in ln(1 + lift).
        confidence: 1 - α, of both intervals.
        expected: τ, the size of lift at which the interval is to be tight. Set it before the
            experiment; any value is valid.

    Returns:
        the interval; NaN with p = 1 where the lift has no logarithm (an arm's mean is not positive).

    Raises:
        ConfigError: `expected` is not above 0.
    """
    if not (expected > 0 and math.isfinite(expected)):
        raise ConfigError(
            f"expected lift is {expected}, but must be above 0; remedy: the smallest lift worth "
            f"finding, such as 0.05; option: expected-lift"
        )
    if not (1 + low > 0 and high > low and math.isfinite(high)):
        return AlwaysValid(math.nan, math.nan, 1.0)
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    error = (math.log1p(high) - math.log1p(low)) / (2 * quantile)
    centre, clock = math.log1p(lift), (expected / error) ** 2
    spread = math.log1p(clock) - 2 * math.log1p(-confidence)
    half = error * math.sqrt((1 + clock) / clock * spread)
    log_p = 0.5 * math.log1p(clock) - (centre / error) ** 2 / 2 * clock / (1 + clock)
    return AlwaysValid(
        math.expm1(centre - half), math.expm1(centre + half), math.exp(min(log_p, 0.0))
    )
