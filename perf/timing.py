"""Ratios of times that hold on a busy machine: the two sides run in turn, pair by pair."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Work = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Compared:
    """Result of a comparison.

    Attributes:
        ratio: median of the ratios of pairs.
        ms: name → median milliseconds.
        pairs: number of pairs.
        quartiles: first and third quartile of the ratios of pairs.
    """

    ratio: float
    ms: dict[str, float]
    pairs: int
    quartiles: tuple[float, float] = (math.nan, math.nan)


def once(work: Work, repeats: int = 1, clock: Clock = time.perf_counter) -> float:
    """Measure seconds per call.

    Args:
        work: is called.
        repeats: calls in a row.
        clock: seconds; `time.process_time` leaves out the time in which other processes ran.
    """
    start = clock()
    for _ in range(repeats):
        work()
    return (clock() - start) / repeats


def interleave(
    works: Mapping[str, Work],
    pairs: int,
    *,
    warm: int = 1,
    repeats: Mapping[str, int] | None = None,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Measure several works in turn.

    Args:
        works: name → work.
        pairs: measurements of each work.
        warm: calls of each work before the measurements.
        repeats: name → calls per measurement, for short works; 1 by default.
        clock: of `once`.

    Returns:
        Name → seconds per call of each measurement.
    """
    repeats = repeats or {}
    for work in works.values():
        for _ in range(warm):
            work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for i in range(pairs):
        for name in names if i % 2 == 0 else names[::-1]:
            seconds[name].append(once(works[name], repeats.get(name, 1), clock))
    return seconds


def compare(
    top: tuple[str, Work],
    bottom: tuple[str, Work],
    pairs: int,
    *,
    warm: int = 1,
    repeats: Mapping[str, int] | None = None,
    clock: Clock = time.perf_counter,
) -> Compared:
    """Measure how many times as long one work takes as another.

    Args:
        top: name and work of the numerator.
        bottom: name and work of the denominator.
        pairs: number of pairs.
        warm: calls of each work before the measurements.
        repeats: name → calls per measurement, for short works; 1 by default.
        clock: of `once`.
    """
    seconds = interleave(dict([top, bottom]), pairs, warm=warm, repeats=repeats, clock=clock)
    ratios = [a / b for a, b in zip(seconds[top[0]], seconds[bottom[0]])]
    low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive")
    ms = {name: round(statistics.median(values) * 1e3, 3) for name, values in seconds.items()}
    return Compared(ratio, ms, pairs, (round(low, 3), round(high, 3)))


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Fit the slope of log seconds over log size, by least squares.

    Args:
        sizes: the sizes.
        seconds: one per size.
    """
    x = [math.log(v) for v in sizes]
    y = [math.log(v) for v in seconds]
    mx, my = statistics.fmean(x), statistics.fmean(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x)
