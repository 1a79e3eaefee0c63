"""Tests for tables: paired over seeds and over requests, corrected for their number."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from goalrank.evaluation.statistics.bootstrap import Difference, Resampler

FloatArray = NDArray[np.float64]
_FEWEST_USERS = 30  # below this a cluster bootstrap is too coarse to mean anything


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p values adjusted for the number of tests (Holm, 1979).

    The i-th smallest of m is multiplied by m − i + 1 and made no smaller than those before it, at
    most 1. NaN entries take no part and stay.
    """
    given = np.asarray(p, dtype=np.float64)
    out = np.full(len(given), np.nan)
    real = np.flatnonzero(~np.isnan(given))
    order = real[np.argsort(given[real], kind="stable")]
    factor = len(order) - np.arange(len(order))
    out[order] = np.minimum(np.maximum.accumulate(given[order] * factor), 1.0)
    return [float(v) for v in out]


def t_tail(t: float, df: int) -> float:
    """Two-sided tail of Student's t: P(|T| ≥ |t|), for whole degrees of freedom.

    Source: the finite sums of Abramowitz & Stegun, 26.7.3 and 26.7.4.
    """
    if df < 1 or math.isnan(t):
        return math.nan
    if math.isinf(t):
        return 0.0
    theta = math.atan(abs(t) / math.sqrt(df))
    sine, cosine = math.sin(theta), math.cos(theta)
    term, total = (1.0, 1.0) if df % 2 == 0 else (cosine, cosine)
    first = 2 if df % 2 == 0 else 3
    for k in range(first, df - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    if df % 2 == 0:
        inside = sine * total
    else:
        inside = 2 / math.pi * (theta + (sine * total if df > 1 else 0.0))
    return max(0.0, 1.0 - inside)


def paired_t(differences: Sequence[float]) -> float:
    """Two-sided p of the paired t-test of differences, one per seed; NaN below two seeds."""
    d = np.asarray(differences, dtype=np.float64)
    if len(d) < 2:
        return math.nan
    spread = float(d.std(ddof=1))
    if spread == 0:
        return 1.0 if float(d.mean()) == 0 else 0.0
    return t_tail(float(d.mean()) / (spread / math.sqrt(len(d))), len(d) - 1)


def over_requests(
    a: FloatArray, b: FloatArray, users: NDArray[np.int64], resamples: int = 5000, seed: int = 0
) -> Difference:
    """Bootstrap of a − b over requests, all seeds of a request together.

    Seeds are averaged first, since the same request under another seed is no new request; whole
    users are drawn, where there are 30 or more.

    Args:
        a: [seeds, n]; one row where a baseline has no seeds.
        b: as `a`.
        users: [n].
        resamples: of the bootstrap.
        seed: of the resamples.
    """
    named, cluster = np.unique(users, return_inverse=True)
    units = cluster if len(named) >= _FEWEST_USERS else np.arange(len(users))
    resampler = Resampler(units.astype(np.int64), resamples, seed)
    return resampler.difference(a.mean(0), b.mean(0))
