"""Bootstrap intervals of means over requests, with the same resamples for every ranker.

Requests of one user share their tastes, so by default whole users are drawn (cluster bootstrap; Davison
& Hinkley, 1997, §3.8): a mean is then the sum of the drawn users' values over the count of their requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from goalrank.wording import counted

FloatArray = NDArray[np.float64]
_CHUNK_CELLS = 4_000_000  # weights held at once: 32 MB
LEVEL = 0.95
_ROUNDING = 1e-6  # of the larger value: single precision leaves no more to a sum in another order


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Mean and ends of the interval by name."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Difference(Interval):
    """Mean of a - b over the same requests, its interval, and a two-sided p of "no difference"."""

    p: float

    def to_dict(self) -> dict[str, float]:
        """Mean, ends of the interval and p-value by name."""
        return {**super().to_dict(), "p": self.p}


@dataclass(frozen=True)
class Resampler:
    """Draws of clusters with replacement; equal seeds give equal draws for any values.

    Attributes:
        clusters: [R] 0…U-1, the cluster of each request.
        resamples: number of draws.
        seed: of the draws.
    """

    clusters: NDArray[np.int64]
    resamples: int
    seed: int

    def means(self, values: FloatArray) -> FloatArray:
        """Resampled means [resamples, M] of columns [R, M]; NaN entries take no part.

        Memory: O(resamples · M + U · M), the weights come in chunks.
        """
        total, count = cluster_sums(values, self.clusters)
        out = [divide(w @ total, w @ count) for w in self._weights(len(total))]
        return np.concatenate(out) if out else np.zeros((0, values.shape[1]))

    def _weights(self, size: int) -> Iterator[FloatArray]:
        """[chunk, U] how often each draw took each cluster."""
        rng = np.random.default_rng(self.seed)
        chunk = max(1, _CHUNK_CELLS // max(size, 1))
        for done in range(0, self.resamples, chunk):
            draws = min(chunk, self.resamples - done)
            weights = np.empty((draws, size))
            for row in weights:
                row[:] = np.bincount(rng.integers(0, size, size), minlength=size)
            yield weights

    def intervals(self, values: FloatArray) -> list[Interval]:
        """The interval of each column of values [R, M]."""
        mean = divide(np.nansum(values, 0), np.isfinite(values).sum(0))
        low, high = self.ends(mean, self.means(values))
        return [Interval(float(m), float(a), float(b)) for m, a, b in zip(mean, low, high)]

    def difference(self, a: FloatArray, b: FloatArray, choices: int = 1) -> Difference:
        """The difference of two columns [R], request by request.

        Args:
            a: [R].
            b: [R].
            choices: of how many columns `a` was chosen by these very requests; the interval and p
                are Bonferroni's for as many.
        """
        gap = paired_gap(a, b)[:, None]
        means = self.means(gap)
        mean = divide(np.nansum(gap, 0), np.isfinite(gap).sum(0))
        low, high = self.ends(mean, means, 1 - (1 - LEVEL) / choices)[:, 0]
        p = min(1.0, choices * self.tail(float(mean[0]), means[:, 0]))
        return Difference(float(mean[0]), float(low), float(high), p)

    def ends(self, value: FloatArray, drawn: FloatArray, level: float = LEVEL) -> FloatArray:
        """Ends [2, M] of the intervals of estimates.

        Args:
            value: [M] the estimates.
            drawn: [D, M] what they are in the draws of `means`.
            level: share of the distribution within, 95 % by default.
        """
        return percentiles(drawn, level)

    def tail(self, value: float, drawn: FloatArray) -> float:
        """Two-sided p of "the estimate is 0".

        Args:
            value: the estimate.
            drawn: [D] what it is in the draws of `means`.

        Returns:
            Twice the smaller share of draws on either side of 0, at most 1, and never below
            2 / (resamples + 1).
        """
        drawn = drawn[np.isfinite(drawn)]
        sides = 1 + min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
        return min(1.0, 2 * sides / (len(drawn) + 1))

    def words(self, unit: str) -> str:
        """How intervals were made, for a report.

        Args:
            unit: what is drawn, "user" or "request".
        """
        return f"95 % intervals from {counted(self.resamples, 'resample')} of {unit}s"


def paired_gap(a: FloatArray, b: FloatArray) -> FloatArray:
    """Differences a - b, 0 where they are no larger than rounding.

    Two ways to compute one number may differ in its last digits, by as little in every request: a
    test would call that certain.

    Args:
        a: any shape, as `b`.
        b: taken off.
    """
    gap = a - b
    return np.where(np.abs(gap) <= _ROUNDING * np.maximum(np.abs(a), np.abs(b)), 0.0, gap)


def percentiles(means: FloatArray, level: float = LEVEL) -> FloatArray:
    """Ends [2, M] of the intervals of resampled means [resamples, M]; NaN draws take no part."""
    ends = np.full((2, means.shape[1]), np.nan)
    some = np.isfinite(means).any(0)
    if some.any():
        tail = 50 * (1 - level)
        ends[:, some] = np.nanpercentile(means[:, some], [tail, 100 - tail], axis=0)
    return ends


def cluster_sums(values: FloatArray, clusters: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Sums [U, M] of columns [R, M] by cluster, and of how many entries; NaN takes no part."""
    size = int(clusters.max(initial=-1)) + 1
    real = np.isfinite(values)
    total = _by_cluster(np.where(real, values, 0.0), clusters, size)
    return total, _by_cluster(real.astype(np.float64), clusters, size)


def _by_cluster(values: FloatArray, clusters: NDArray[np.int64], size: int) -> FloatArray:
    if size == len(clusters) and np.array_equal(clusters, np.arange(size)):
        return values
    columns = [np.bincount(clusters, weights=column, minlength=size) for column in values.T]
    return np.stack(columns, 1) if columns else np.zeros((size, 0))


def divide(total: FloatArray, count: NDArray[np.float64] | NDArray[np.int64]) -> FloatArray:
    """Quotients; NaN where `count` is not above 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, total / count, np.nan)
