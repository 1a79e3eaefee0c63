"""What an A/B report cannot tell, in words: too few units, an open interval, an A/A test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from goalrank.experiments.config import Experiment
from goalrank.wording import counted, named_values

# Below this, tests of equal variants (clicks per list, 1 to 4 lists per user) were below p = 0.05 in up to
# 6 % of the cases and had intervals without 0 in up to 8 %, and the two disagreed in up to 4 %; from it on
# in 4 to 6 % and at most 3 %.
FEW_UNITS = 100
LIFT = 0.05  # that a test should find, where nobody said another
_POWER = 0.8


@dataclass(frozen=True)
class Span:
    """The interval of one metric's lift for one variant, for a single look.

    Attributes:
        metric, variant: names of both.
        low, high: ends of the interval; any may be NaN.
        open: whether the report's interval contains 0.
    """

    metric: str
    variant: str
    low: float
    high: float
    open: bool


def unit_notes(
    experiment: Experiment,
    control: str,
    units: Mapping[str, int],
    spans: Sequence[Span],
    *,
    confidence: float,
    lift: float,
) -> tuple[str, ...]:
    """Sentences on what the report does not tell.

    Args:
        experiment: the experiment.
        control: name of the control variant.
        units: variant → number of units.
        spans: of every metric and variant other than control.
        confidence: level of the intervals, in (0, 1).
        lift: relative difference that is worth finding, above 0.

    Returns:
        On variants that serve what control serves, on variants of few units, and on intervals that
        contain 0; empty where there is nothing to say.
    """
    unit = experiment.unit.removesuffix("_id")
    found = [*_same_served(experiment, control, confidence), *_few(units, unit)]
    for span in spans:
        pair = units[control], units[span.variant]
        if span.open and (needed := _needed(span, pair, confidence, lift)) is not None:
            found.append(
                f"{span.metric}, {span.variant}: not told apart from {control}, as the interval "
                f"contains 0. To find a lift of {100 * lift:g} % with probability {100 * _POWER:.0f} % "
                f"takes about {counted(needed, unit)} in each variant; there are {pair[0]:,} and "
                f"{pair[1]:,}."
            )
    return tuple(found)


def _same_served(experiment: Experiment, control: str, confidence: float) -> Iterator[str]:
    bundles = {variant.name: variant.bundle for variant in experiment.variants}
    same = [n for n, bundle in bundles.items() if n != control and bundle == bundles[control]]
    if same and experiment.interleave is None:
        yield (
            f"{', '.join(same)} {'serves' if len(same) == 1 else 'serve'} what {control} serves (an "
            f"A/A test): every difference is chance, and about {100 * (1 - confidence):.0f} % of the intervals "
            f"leave out 0."
        )


def _few(units: Mapping[str, int], unit: str) -> Iterator[str]:
    if min(units.values()) < FEW_UNITS:
        yield (
            f"Too few {unit}s to conclude anything ({named_values(units)}): with fewer than "
            f"{FEW_UNITS} in a variant, intervals and p-values are rough and may contradict each "
            f"other. Wait for more."
        )


def _needed(span: Span, units: Iterable[int], confidence: float, lift: float) -> int | None:
    """Units per variant that find a lift, to two digits; None where the interval does not say.

    The logarithm of 1 + lift is about normal, and its variance goes down with the number of units n
    of two equal variants: n = n₀ (SE₀ / SE)², SE = ln(1 + lift) / (z of the interval + z of the power).
    """
    if not (span.low > -1 and math.isfinite(span.high) and span.high > span.low):
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    error = (math.log1p(span.high) - math.log1p(span.low)) / (2 * z)
    wanted = math.log1p(lift) / (z + NormalDist().inv_cdf(_POWER))
    balanced = 2 / sum(1 / count for count in units)  # equal variants of the same variance
    needed = max(1, math.ceil(balanced * (error / wanted) ** 2))
    digit: int = 10 ** max(len(str(needed)) - 2, 0)
    return -(-needed // digit) * digit
