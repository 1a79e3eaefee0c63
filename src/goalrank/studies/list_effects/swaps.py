"""Natural experiments: shown lists that differ by one exchange of neighbouring items.

Lists of the same items (of the same user, where asked for) are grouped by their order. Two orders that
differ by exactly one exchange of neighbours are a pair. What changed in the feedback from one order
to the other is compared with the change that a model predicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from goalrank.evaluation import Interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_UP = "item moved up"
MEASURES = ("slots", _UP, "other slots", "list")
FEWEST = 30  # pairs, and users whom they were shown to
_NO_CHANGE = 1e-4  # root mean square of predicted changes below which no slope is taken
_TINY = 1e-12


@dataclass(frozen=True)
class SwapPairs:
    """Pairs of orders among R requests.

    Attributes:
        order: [R] number of each request's order, -1 where it is in no pair.
        first, second: [P] numbers of a pair's orders.
        upper: [P] the slot, from 0, that exchanges its item with the next one.
    """

    order: Ints
    first: Ints
    second: Ints
    upper: Ints

    def __len__(self) -> int:
        return len(self.first)

    @property
    def requests(self) -> int:
        """How many requests show an order that is in a pair."""
        return int((self.order >= 0).sum())

    def enough_for(self, clusters: Ints) -> bool:
        """Whether changes can be compared: by 30 pairs, shown to 30 users.

        Args:
            clusters: [R] users, or each request alone.
        """
        shown_to = np.unique(clusters[self.order >= 0])
        return min(len(self), len(shown_to)) >= FEWEST


def find_swaps(items: Ints, group: Ints | None = None) -> SwapPairs:
    """Find the pairs of orders.

    Args:
        items: [R, S] shown items in their order, negative where empty.
        group: [R] only lists of one group are compared, e.g. those of one user; None compares all.
    """
    slots = [f"s{t}" for t in range(items.shape[1])]
    keys = [*slots, "group"]
    own = np.zeros(len(items), np.int64) if group is None else group
    shown = pl.DataFrame(np.maximum(items, -1), schema=slots).with_columns(group=own)
    orders = shown.unique(keys, maintain_order=True).with_row_index("order")
    found = [_exchanged(orders, keys, t) for t in range(len(slots) - 1)]
    pairs = pl.concat(found) if found else pl.DataFrame({"order": [], "other": [], "upper": []})
    first, second, upper = (pairs[c].to_numpy().astype(np.int64) for c in pairs.columns)
    used, at = np.unique(np.concatenate([first, second]), return_inverse=True)
    numbers = np.full(len(orders), -1)
    numbers[used] = np.arange(len(used))
    each = shown.join(orders, on=keys, how="left", maintain_order="left")["order"].to_numpy()
    return SwapPairs(numbers[each], at[: len(first)], at[len(first) :], upper)


def _exchanged(orders: pl.DataFrame, keys: list[str], t: int) -> pl.DataFrame:
    """Pairs of orders that become each other when slots t and t+1 exchange their items."""
    a, b = keys[t], keys[t + 1]
    swapped = orders.rename({a: b, b: a, "order": "other"})
    return (
        orders.join(swapped, on=keys, maintain_order="left")
        .filter(pl.col("order") < pl.col("other"))
        .select("order", "other", upper=pl.lit(t))
    )


@dataclass(frozen=True)
class SwapFit:
    """Observed changes against those a model predicts, in one measure.

    Attributes:
        slope: of the regression through 0, pairs weighted by their lists; mean over seeds. 1 is
            right, NaN where the model predicts no change.
        correlation: of both about 0; noise of single answers keeps it far below 1.
        observed, predicted: mean change, of one item moved one slot up. NaN in the other measures,
            whose sign is arbitrary.
        size: root mean square of the predicted changes.
        slope_by_seed: one per seed.
    """

    slope: Interval
    correlation: Interval
    observed: Interval
    predicted: float
    size: float
    slope_by_seed: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Values by name, intervals as their mean and ends."""
        return {
            "slope": self.slope.to_dict(),
            "correlation": self.correlation.to_dict(),
            "observed": self.observed.to_dict(),
            "predicted": self.predicted,
            "size": self.size,
            "slope_by_seed": list(self.slope_by_seed),
        }


def fit_swaps(
    pairs: SwapPairs,
    feedback: Floats,
    predicted: Floats,
    clusters: Ints,
    *,
    beyond: Floats | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, SwapFit]:
    """Compare observed with predicted changes; intervals by resampling clusters of requests.

    Requests of a pair differ in more than their order (features of their moment, users), which all
    models see. `beyond` takes out what another model makes of that: then the slope says whether
    what one model predicts beyond the other is there.

    Args:
        pairs: from `find_swaps`.
        feedback: [R, S]; NaN at empty slots.
        predicted: [seeds, R, S] probabilities of one model's seeds, as `feedback`.
        clusters: [R] what is drawn together: users, or each request alone.
        beyond: [seeds, R, S] another model's probabilities, which are taken off both sides.
        resamples: of the intervals.
        seed: of the draws.

    Returns:
        Measure → fit. "slots": change of each of the two slots; "item moved up": of each item
        when it stands one slot higher; "other slots": sum of all others; "list": sum of all.
    """
    used = pairs.order >= 0
    _, own = np.unique(clusters[used], return_inverse=True)
    base = np.zeros_like(predicted) if beyond is None else beyond
    values = np.nan_to_num(np.stack([feedback - base, predicted - base]))[:, :, used]
    order = pairs.order[used]
    pick = csr_matrix((np.ones(len(order)), (order, np.arange(len(order)))))
    point = _statistics(pairs, pick, values, np.ones(len(order)))
    rng = np.random.default_rng(seed)
    size = int(own.max(initial=-1)) + 1
    drawn = (np.bincount(rng.integers(0, size, size), minlength=size) for _ in range(resamples))
    draws = np.stack(
        [_statistics(pairs, pick, values, times[own].astype(np.float64)) for times in drawn]
    )
    return {name: _fit(point[:, m], draws[:, :, m]) for m, name in enumerate(MEASURES)}


def _statistics(pairs: SwapPairs, pick: csr_matrix, values: Floats, weight: Floats) -> Floats:
    """[seeds, measures, 5] slope, correlation, mean observed, mean predicted, size.

    Args:
        pairs: P pairs of O orders.
        pick: [O, n] 1 where a request shows an order.
        values: [2, seeds, n, S] observed and predicted.
        weight: [n] of the requests.
    """
    count = pick @ weight
    flat = np.moveaxis(values, 2, 0) * weight[:, None, None, None]  # [n, 2, seeds, S]
    mean = (pick @ flat.reshape(len(flat), -1)) / np.maximum(count, _TINY)[:, None]
    mean = np.moveaxis(mean.reshape(len(count), *flat.shape[1:]), 0, 2)  # [2, seeds, O, S]
    a, b = count[pairs.first], count[pairs.second]
    each = a * b / np.maximum(a + b, _TINY)
    found = [_relation(change, np.tile(each, reps)) for change, reps in _changes(pairs, mean)]
    out = np.stack(found, 1)
    signed = np.array([name == _UP for name in MEASURES])
    out[:, ~signed, 2:4] = np.nan
    return out


def _changes(pairs: SwapPairs, mean: Floats) -> list[tuple[Floats, int]]:
    """Changes [2, seeds, observations] of each of `MEASURES`, and how many there are per pair."""
    row, t = np.arange(len(pairs)), pairs.upper
    first, second = mean[:, :, pairs.first], mean[:, :, pairs.second]
    change = second - first
    total = change.sum(-1)
    upper, lower = change[..., row, t], change[..., row, t + 1]
    rises = second[..., row, t] - first[..., row, t + 1]  # the item of the lower slot
    falls = first[..., row, t] - second[..., row, t + 1]  # the other one, looked at the other way
    return [
        (np.concatenate([upper, lower], -1), 2),
        (np.concatenate([rises, falls], -1), 2),
        (total - upper - lower, 1),
        (total, 1),
    ]


def _relation(change: Floats, weight: Floats) -> Floats:
    """[seeds, 5] of observed and predicted changes [2, seeds, observations]."""
    y, x = change
    total = max(float(weight.sum()), _TINY)
    xy, xx, yy = (x * y) @ weight, (x * x) @ weight, (y * y) @ weight
    size = np.sqrt(xx / total)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(size > _NO_CHANGE, xy / xx, np.nan)
        correlation = np.where(size > _NO_CHANGE, xy / np.sqrt(xx * yy), np.nan)
    return np.stack([slope, correlation, y @ weight / total, x @ weight / total, size], 1)


def _fit(point: Floats, draws: Floats) -> SwapFit:
    """Of point [seeds, 5] and draws [resamples, seeds, 5]; seeds of a draw are averaged first."""
    mean, drawn = point.mean(0), draws.mean(1)
    slope, correlation, observed = (_interval(mean[i], drawn[:, i]) for i in range(3))
    return SwapFit(
        slope, correlation, observed, float(mean[3]), float(mean[4]), tuple(point[:, 0].tolist())
    )


def _interval(mean: float, drawn: Floats) -> Interval:
    """The spread of the draws around the estimate.

    Resampling makes both sides noisier than they are, which pulls draws of a ratio to one side:
    they are centred first.
    """
    if not np.isfinite(mean):
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.nanpercentile(drawn, [2.5, 97.5]) - np.nanmean(drawn)
    return Interval(float(mean), float(mean + low), float(mean + high))
