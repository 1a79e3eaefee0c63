"""Tests for tables: two methods compared over seeds and users, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from goalrank.errors import DataError
from goalrank.evaluation.statistics.bootstrap import (
    LEVEL,
    Difference,
    FloatArray,
    cluster_sums,
    paired_gap,
)
from goalrank.evaluation.statistics.student import satterthwaite, t_reach, t_tail


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


@dataclass(frozen=True)
class SeedsAndUsers(Difference):
    """Mean of a - b over seeds and requests, tested by both of its sources of variance.

    With one seed the interval and p are over users alone: they speak of the two trained models, and
    say nothing about the methods, whose other seeds give other models.

    Attributes:
        seeds: S.
        users: U.
        seed_error: the part of the standard error that more seeds would make smaller; NaN for one.
        user_error: the part that only more users would make smaller.
        degrees: of freedom of Student's t.
    """

    seeds: int
    users: int
    seed_error: float
    user_error: float
    degrees: float


def over_seeds_and_users(a: FloatArray, b: FloatArray, users: NDArray[np.int64]) -> SeedsAndUsers:
    """Compare two methods on the same requests, each trained from S seeds.

    Seeds and users are crossed random effects. The variance of the mean over both is the variance of
    the seeds' means over S, which holds the seeds' own part and that of the interaction, plus the
    users' own part: the cluster-robust variance of the seed-averaged difference less the
    interaction's, and at least 0. Student's t has Satterthwaite's degrees of freedom of the two.

    A bootstrap of three or five seeds would be too narrow (its variance is (S - 1) / S of the true
    one, and its tails are not those of t), so there is none, and p has no floor.

    Sources: Satterthwaite, 1946; Cameron, Gelbach & Miller, 2011, "Robust inference with multiway
    clustering"; users by the jackknife as in `LeaveOneOut`.

    Args:
        a: [S, R] metric of a method by seed and request.
        b: as `a`, with the seeds in the same order; the same row S times for a baseline.
        users: [R] who asked; a request that is NaN anywhere takes no part.

    Raises:
        DataError: arrays whose shapes do not fit.
    """
    if a.shape != b.shape or a.ndim != 2 or users.shape != a.shape[1:]:
        raise DataError(
            f"values {a.shape} and {b.shape} and users {users.shape} do not fit; remedy: pass "
            f"[S, R] twice and [R]"
        )
    gap = paired_gap(a, b)
    real = np.isfinite(gap).all(0)
    gap, users = gap[:, real], users[real]
    seeds, requests = gap.shape
    cluster = np.unique(users, return_inverse=True)[1].astype(np.int64)
    count = int(cluster.max(initial=-1)) + 1
    by_seed = gap.mean(1) if requests else np.full(seeds, np.nan)
    mean = float(by_seed.mean())
    of_users = _jackknife((gap - mean).mean(0)[:, None], cluster)
    if seeds == 1:
        variances, freedom = np.array([0.0, of_users]), np.array([1, max(count - 1, 1)])
    else:
        of_seeds = float(by_seed.var(ddof=1)) / seeds
        rest = gap - by_seed[:, None] - (gap.mean(0) - mean)
        interaction = _jackknife(rest.T, cluster) / (seeds * (seeds - 1))
        own = max(of_users - interaction, 0.0) if np.isfinite(of_users) else np.inf
        variances, freedom = np.array([of_seeds, own]), np.array([seeds - 1, max(count - 1, 1)])
    error = float(np.sqrt(variances.sum()))
    parts = slice(int(seeds == 1), None)  # one seed has no part of its own
    degrees = satterthwaite(variances[parts], freedom[parts])
    reach = t_reach(mean, error, degrees, LEVEL)
    return SeedsAndUsers(
        mean, mean - reach, mean + reach, t_tail(mean, error, degrees), seeds, count,
        float(np.sqrt(variances[0])) if seeds > 1 else np.nan, float(np.sqrt(variances[1])), degrees,
    )  # fmt: skip


def _jackknife(centred: FloatArray, cluster: NDArray[np.int64]) -> float:
    """Sum over columns of the jackknife variance of their means; columns [R, M] of mean 0."""
    total, count = cluster_sums(centred, cluster)
    size = len(total)
    if size < 2:
        return np.inf
    left = -total / (count.sum(0) - count)
    return float((size - 1) / size * (left**2).sum())
