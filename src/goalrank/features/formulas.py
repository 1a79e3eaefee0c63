"""Formulas that several families share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from goalrank.features.past import EarlierRows

__all__ = ["DAY", "HOUR", "STRENGTH", "log_span", "means", "smoothed"]

STRENGTH = 10.0  # weight of the mean that a rate is drawn to, in rows
DAY, HOUR = 86_400e6, 3_600e6  # microseconds

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Longs = NDArray[np.int64]


def log_span(span: Longs, some: NDArray[np.bool_], unit: float) -> Floats:
    """log(1 + span / unit), 0 where there is nothing to measure from.

    Args:
        span: microseconds.
        some: whether there is something.
        unit: microseconds.
    """
    return np.log1p(np.where(some, span, 0) / unit).astype(np.float32)


def means(rows: EarlierRows) -> tuple[Doubles, ...]:
    """Plain mean of each feedback type over rows; 0 over none."""
    return tuple(total / np.maximum(rows.count, 1) for total in rows.sums)


def smoothed(total: Doubles, count: NDArray[np.floating] | Longs, mean: Doubles) -> Doubles:
    """(total + 10 mean) / (count + 10).

    Args:
        total: sums over rows.
        count: number of rows.
        mean: what a rate over few rows is drawn to.
    """
    rate: Doubles = (total + STRENGTH * mean) / (count + STRENGTH)
    return rate
