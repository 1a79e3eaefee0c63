"""Intervals where users are too few to be resampled: Student's t over users, by the jackknife.

A bootstrap of fewer than about 30 users is too coarse, and one of their single requests takes a
user's many alike answers for many witnesses. With U users the mean's variance is that of the U means
that each leave one user out (the cluster jackknife, CV3), and Student's t has U - 1 degrees of freedom.

Source: MacKinnon, Nielsen & Webb, 2023, "Cluster-robust inference: A guide to empirical practice".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from goalrank.errors import ConfigError
from goalrank.evaluation.statistics.bootstrap import (
    LEVEL,
    Difference,
    FloatArray,
    Resampler,
    cluster_sums,
    divide,
)
from goalrank.evaluation.statistics.student import t_quantile, t_tail

FEWEST_CLUSTERS = 30  # below this Student's t takes the bootstrap's place


@dataclass(frozen=True)
class LeaveOneOut(Resampler):
    """Means that leave out one cluster each, with intervals by Student's t.

    Nothing is drawn: `resamples` and `seed` do not matter.
    """

    def means(self, values: FloatArray) -> FloatArray:
        """Means [U, M] without each cluster; NaN where a cluster has nothing of a column."""
        total, count = cluster_sums(values, self.clusters)
        left = divide(total.sum(0) - total, count.sum(0) - count)
        return np.where(count > 0, left, np.nan)

    def difference(self, a: FloatArray, b: FloatArray, choices: int = 1) -> Difference:
        """As `Resampler.difference`; infinite where too few clusters agree to the last digit."""
        found = super().difference(a, b, choices)
        if found.low == found.high and found.p > 1 - LEVEL and found.mean != 0:
            return Difference(found.mean, -np.inf, np.inf, found.p)
        return found

    def ends(self, value: FloatArray, drawn: FloatArray, level: float = LEVEL) -> FloatArray:
        """Ends [2, M] of intervals; infinite where fewer than two clusters say anything."""
        error, degrees = _error(value, drawn)
        reach = t_quantile((1 + level) / 2, degrees) * error
        return np.stack([value - reach, value + reach])

    def tail(self, value: float, drawn: FloatArray) -> float:
        """Two-sided p of no difference; 1 where fewer than two clusters say anything."""
        error, degrees = _error(np.array([value]), drawn[:, None])
        return t_tail(value, float(error[0]), float(degrees[0]))

    def words(self, unit: str) -> str:
        """How intervals were made, for a report."""
        users = int(self.clusters.max(initial=-1)) + 1
        if users < 2:
            return f"One {unit}: no interval can be given"
        return (
            f"95 % intervals by Student's t over {users} {unit}s (fewer than {FEWEST_CLUSTERS} are "
            f"not resampled)"
        )


def resample(users: ArrayLike, unit: str, resamples: int, seed: int) -> Resampler:
    """How intervals over requests are made: bootstrap, or Student's t for fewer than 30 units.

    Args:
        users: [R] who asked.
        unit: "user" keeps a user's requests together; "request" takes every request for a witness of
            its own, which only holds where requests of a user are independent.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ConfigError: another unit.
    """
    if unit not in ("user", "request"):
        raise ConfigError(f"unit is '{unit}', but must be 'user' or 'request' (option: unit)")
    found = np.asarray(users)
    cluster = np.arange(len(found))
    if unit == "user":
        cluster = np.unique(found, return_inverse=True)[1].astype(np.int64)
    few = int(cluster.max(initial=-1)) + 1 < FEWEST_CLUSTERS
    return LeaveOneOut(cluster, 0, seed) if few else Resampler(cluster, resamples, seed)


def _error(value: FloatArray, drawn: FloatArray) -> tuple[FloatArray, NDArray[np.float64]]:
    """Jackknife standard errors [M] and their degrees of freedom [M]."""
    used = np.isfinite(drawn)
    count = used.sum(0).astype(np.float64)
    square = (np.where(used, drawn - value, 0.0) ** 2).sum(0)
    scale = np.where(count > 1, (count - 1) / np.maximum(count, 1), np.inf)
    with np.errstate(invalid="ignore"):
        error = np.where(count > 1, np.sqrt(scale * square), np.inf)
    return error, np.maximum(count - 1, 1)
