"""How good a list reward model is: its probabilities per slot, and its order of lists.

All functions take numpy arrays or CPU tensors and return plain numbers or numpy arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from goalrank.errors import ConfigError, DataError

FloatArray = NDArray[np.float64]
_EPSILON = 1e-7


def reward_auc(probability: ArrayLike, label: ArrayLike) -> float:
    """P(p of a positive > p of a negative) + ½ P(equal) over all entries together; NaN without both.

    Args:
        probability: any shape.
        label: the same shape, > 0 is positive.
    """
    p, y = _flat(probability), _flat(label) > 0
    positives = int(y.sum())
    negatives = len(y) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    wins = _midranks(p)[y].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


def log_loss(probability: ArrayLike, label: ArrayLike) -> float:
    """Mean of -[y log p + (1 - y) log(1 - p)] in nats; p is kept 1e-7 from 0 and 1."""
    p = np.clip(_flat(probability), _EPSILON, 1 - _EPSILON)
    y = _flat(label)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log1p(-p))) if len(y) else float("nan")


def constant_log_loss(label: ArrayLike) -> float:
    """Log loss of the one best constant, the mean label (the entropy of the base rate)."""
    y = _flat(label)
    return log_loss(np.full(len(y), y.mean()), y) if len(y) else float("nan")


def log_loss_gain(
    probability: ArrayLike, label: ArrayLike, other: ArrayLike | None = None
) -> float:
    """Share of log loss saved: 1 - loss / loss of `other` (of the best constant if None)."""
    base = constant_log_loss(label) if other is None else log_loss(other, label)
    return 1 - log_loss(probability, label) / base if base > 0 else float("nan")


@dataclass(frozen=True)
class Calibration:
    """Reliability in bins of equal mass.

    Attributes:
        predicted, observed: [bins] mean probability and share of positives.
        count: [bins] entries.
        error: Σ count · |predicted - observed| / Σ count (expected calibration error).
    """

    predicted: FloatArray
    observed: FloatArray
    count: NDArray[np.int64]
    error: float


def calibration(probability: ArrayLike, label: ArrayLike, *, bins: int = 10) -> Calibration:
    """Sort by probability, cut into bins of equal mass, compare means with frequencies.

    Equal probabilities are kept together, so there may be fewer bins. Source: Naeini et al., 2015.
    """
    if bins < 1:
        raise ConfigError(f"bins is {bins}, but must be at least 1 (option: bins)")
    p, y = _flat(probability), _flat(label)
    order = np.argsort(p, kind="stable")
    p, y = p[order], y[order]
    cut = (np.arange(len(p)) * bins) // max(len(p), 1)
    _, first, inverse = np.unique(p, return_index=True, return_inverse=True)
    _, group = np.unique(cut[first][inverse], return_inverse=True)  # ties go where their first goes
    count = np.bincount(group)
    predicted = np.bincount(group, p) / np.maximum(count, 1)
    observed = np.bincount(group, y) / np.maximum(count, 1)
    error = float((count * np.abs(predicted - observed)).sum() / max(count.sum(), 1))
    return Calibration(predicted, observed, count, error if len(p) else float("nan"))


def slot_quality(
    probability: ArrayLike, label: ArrayLike, mask: ArrayLike, kinds: tuple[str, ...]
) -> list[dict[str, Any]]:
    """One row per kind and slot (slot 0 = all slots together): auc, log loss, gain, calibration error.

    Args:
        probability: [R, S, K] predicted.
        label: [R, S, K] observed.
        mask: [R, S] True where something was shown.
        kinds: names of the K kinds.

    Raises:
        DataError: shapes that do not fit.
    """
    p, y, m = np.asarray(probability, float), np.asarray(label, float), np.asarray(mask, bool)
    if p.shape != y.shape or p.shape[:2] != m.shape or p.shape[2] != len(kinds):
        raise DataError(
            f"probabilities {p.shape}, labels {y.shape}, mask {m.shape} and {len(kinds)} kinds do not "
            f"fit; remedy: pass [R, S, K], [R, S, K], [R, S] and K names"
        )
    rows = []
    for k, kind in enumerate(kinds):
        for slot in range(m.shape[1] + 1):
            use = m if slot == 0 else m & (np.arange(m.shape[1]) == slot - 1)
            at, truth = p[..., k][use], y[..., k][use]
            rows.append(
                {
                    "kind": kind,
                    "slot": slot,
                    "count": len(truth),
                    "rate": float(truth.mean()) if len(truth) else float("nan"),
                    "auc": reward_auc(at, truth),
                    "log_loss": log_loss(at, truth),
                    "constant_log_loss": constant_log_loss(truth),
                    "calibration_error": calibration(at, truth).error,
                }
            )
    return rows


@dataclass(frozen=True)
class Spread:
    """A mean over requests, its standard deviation and the number of requests."""

    mean: float
    std: float
    count: int

    def to_dict(self) -> dict[str, float]:
        """Values of the fields by name."""
        return asdict(self)


def order_correlation(
    a: ArrayLike, b: ArrayLike, mask: ArrayLike | None = None
) -> dict[str, Spread]:
    """Agreement of two rewards on the order of a request's lists.

    Args:
        a: [B, G] rewards of the lists.
        b: [B, G] other rewards of the same lists.
        mask: [B, G] True = real list; all if None.

    Returns:
        pearson, spearman (Pearson of mean ranks) and kendall (tau-b), each computed within a request
        and averaged; requests with fewer than two lists or with one of the rewards constant are left
        out of the count.
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    real = np.ones(x.shape, bool) if mask is None else np.asarray(mask, bool)
    if x.shape != y.shape or x.shape != real.shape or x.ndim != 2:
        raise DataError(f"rewards {x.shape} and {y.shape} and mask {real.shape} must all be [B, G]")
    statistics: dict[str, Callable[[FloatArray, FloatArray, NDArray[np.bool_]], FloatArray]] = {
        "pearson": _pearson,
        "spearman": lambda x, y, m: _pearson(_row_ranks(x, m), _row_ranks(y, m), m),
        "kendall": _kendall,
    }
    out = {}
    for name, statistic in statistics.items():
        values = statistic(x, y, real)
        values = values[np.isfinite(values)]
        some = len(values) > 0
        mean = float(values.mean()) if some else float("nan")
        std = float(values.std()) if some else float("nan")
        out[name] = Spread(mean, std, len(values))
    return out


def _flat(values: ArrayLike) -> FloatArray:
    return np.asarray(values, dtype=np.float64).ravel()


def _midranks(values: FloatArray) -> FloatArray:
    """1-based ranks, ties at their mean."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[inverse]


def _row_ranks(x: FloatArray, mask: NDArray[np.bool_]) -> FloatArray:
    """Mean ranks [B, G] within each row; O(B G log G) by sorting rows and looking up both ends."""
    filled = np.where(mask, x, np.inf)
    offset = np.argsort(np.argsort(filled, 1, kind="stable"), 1, kind="stable")
    ranked = np.sort(filled, 1)
    b, g = x.shape
    place = np.broadcast_to(np.arange(g), (b, g))
    new = np.ones((b, g), bool)
    new[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    start = np.maximum.accumulate(np.where(new, place, 0), 1)
    last = np.ones((b, g), bool)
    last[:, :-1] = new[:, 1:]
    end = np.minimum.accumulate(np.where(last, place, g)[:, ::-1], 1)[:, ::-1]
    return np.take_along_axis((start + end) / 2, offset, 1)


def _pearson(x: FloatArray, y: FloatArray, mask: NDArray[np.bool_]) -> FloatArray:
    n = np.maximum(mask.sum(1, keepdims=True), 1)
    x = np.where(mask, x - np.where(mask, x, 0).sum(1, keepdims=True) / n, 0)
    y = np.where(mask, y - np.where(mask, y, 0).sum(1, keepdims=True) / n, 0)
    scale = np.sqrt((x * x).sum(1) * (y * y).sum(1))
    # A constant row leaves rounding of its mean behind: call that no spread.
    size = np.abs(x).max(1, initial=0) * np.abs(y).max(1, initial=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((scale > 0) & (size > 1e-20), (x * y).sum(1) / scale, np.nan)


def _kendall(x: FloatArray, y: FloatArray, mask: NDArray[np.bool_]) -> FloatArray:
    """tau-b [B], in chunks of rows so that [rows, G, G] stays small."""
    b, g = x.shape
    step = max(1, 4_000_000 // max(g * g, 1))
    out = np.full(b, np.nan)
    for start in range(0, b, step):
        rows = slice(start, start + step)
        pair = mask[rows, :, None] & mask[rows, None, :]
        dx = np.sign(x[rows, :, None] - x[rows, None, :]) * pair
        dy = np.sign(y[rows, :, None] - y[rows, None, :]) * pair
        scale = np.sqrt((dx * dx).sum((1, 2)) * (dy * dy).sum((1, 2)))
        with np.errstate(invalid="ignore", divide="ignore"):
            out[rows] = np.where(scale > 0, (dx * dy).sum((1, 2)) / scale, np.nan)
    return out
