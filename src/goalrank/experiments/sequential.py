"""Always-valid intervals and p-values: valid at any number of looks at an experiment, at any time.

A fixed-sample test that is looked at every day gives far more false alarms than its level. Here
the interval is a confidence sequence: with probability 1 - α it contains the true lift at all
looks. It is Robbins' normal mixture, in the asymptotic form of Waudby-Smith, Arbour, Sinha, Kennedy
& Ramdas, 2024, "Time-uniform central limit theory and asymptotic confidence sequences" (Annals of
Statistics), with the mixing of Johari, Koomen, Pekelis & Walsh, 2022, "Always valid inference"
(Operations Research). Time is measured by the information V = 1 / SE², so that the sequence stays
valid where units return and their sums grow.

The guarantee is asymptotic: it needs the normal approximation at the first look. Wait until each
variant has about a hundred units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

from goalrank.errors import ConfigError

_MIXING = 100.0  # sizes off by about 5 points of an even split are found first


class AlwaysValid(NamedTuple):
    """Interval of a lift and p-value of no lift, both valid at any time.

    Attributes:
        low, high: bounds of the lift.
        p_value: two-sided p-value.
    """

    low: float
    high: float
    p_value: float


def always_valid(
    lift: float, low: float, high: float, *, confidence: float, expected: float
) -> AlwaysValid:
    """Widen the fixed-sample interval of a lift to one that is valid at all looks.

    With z = ln(1 + lift) / SE, V = 1 / SE² and mixing variance τ²::

        half-width = SE · sqrt((1 + Vτ²) / (Vτ²) · (ln(1 + Vτ²) + 2 ln(1 / α)))
        p = min(1, sqrt(1 + Vτ²) · exp(-z² / 2 · Vτ² / (1 + Vτ²)))

    Args:
        lift: relative difference of two means, above -1.
        low: lower bound of its normal interval at `confidence`, symmetric in ln(1 + lift).
        high: upper bound of that interval.
        confidence: 1 - α of both intervals, in (0, 1).
        expected: τ > 0, the size of lift at which the interval is tight. Choose it before the
            experiment; any value is valid.

    Returns:
        The interval and its p-value; NaN with p = 1 where 1 + lift has no logarithm (a variant's
        mean is not positive).

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
    centre, information = math.log1p(lift), (expected / error) ** 2  # V · τ²
    log_term = math.log1p(information) - 2 * math.log1p(-confidence)
    half = error * math.sqrt((1 + information) / information * log_term)
    log_p = 0.5 * math.log1p(information) - (centre / error) ** 2 / 2 * information / (
        1 + information
    )
    return AlwaysValid(
        math.expm1(centre - half), math.expm1(centre + half), math.exp(min(log_p, 0.0))
    )


def sample_ratio_p_value(counts: Sequence[int], weights: Sequence[float]) -> float:
    """Always-valid p-value of the variants' sizes against their weights.

    With n units, x_i in variant i and p_i its share of the weights, the evidence against the
    weights is the Bayes factor of a Dirichlet mixture with α_i = C · p_i, C = 100::

        ln E = ln Γ(C) - ln Γ(C + n) + Σ_i (ln Γ(α_i + x_i) - ln Γ(α_i) - x_i ln p_i)
        p = min(1, 1 / E)

    Where the weights are right, E is a martingale of mean 1, so that P(p ≤ α at any look) ≤ α.
    Source: Lindon & Malek, 2022, "Anytime-valid inference for multinomial count data" (NeurIPS).

    Args:
        counts: units per variant.
        weights: of the variants, above 0.
    """
    total = sum(weights)
    shares = [weight / total for weight in weights]
    evidence = math.lgamma(_MIXING) - math.lgamma(_MIXING + sum(counts))
    for count, share in zip(counts, shares, strict=True):
        prior = _MIXING * share
        evidence += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return math.exp(min(-evidence, 0.0))
