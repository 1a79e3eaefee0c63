"""Family of the user and the categories of items: counts and rates over the user's latest rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from goalrank.features.categories import ItemCategories
from goalrank.features.family import Feature, FeatureFamily, Values
from goalrank.features.fixed_point import ONE, fixed_point
from goalrank.features.formulas import means, smoothed
from goalrank.features.past import LatestRows, Needs, Past

__all__ = ["UserCategories"]

_ROWS = 100  # latest rows per user

Doubles = NDArray[np.float64]


class UserCategories(FeatureFamily):
    """How often the user had items of the candidate's categories of late, and how they did."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """See `FeatureFamily`."""
        return tuple(each for column in self.inputs.categories for each in self._of(column))

    def _of(self, column: str) -> Iterator[Feature]:
        memory = f"{_ROWS} latest rows per user, which other families share"
        same = f"the user's latest {_ROWS} rows with the {column} of the item (mean over each {column})"
        yield Feature(f"user_{column}_count", "log(1 + rows)", same, memory)
        for kind in self.inputs.kinds:
            yield Feature(
                f"user_{column}_{kind}_rate",
                "share of rows, in [0, 1]",
                f"mean of {kind} over {same}, shrunk towards the user_{kind}_rate r: (sum of {kind} + "
                f"10 r) / (rows + 10)",
                memory,
            )

    @property
    def needs(self) -> Needs:
        """See `FeatureFamily`."""
        return Needs(("user", "all"), latest=_ROWS) if self.inputs.categories else Needs()

    def values(self, past: Past) -> Sequence[Values]:
        """See `FeatureFamily`."""
        if not self.inputs.categories:
            return []
        latest = past.latest(_ROWS)
        user, overall = past.counts("user"), past.counts("all")
        rates = [
            smoothed(total, user.count, mean) for total, mean in zip(user.sums, means(overall))
        ]
        out: list[Values] = []
        for categories in self.inputs.categories.values():
            count, *sums = _shared(categories, latest, past.items)
            out.append(np.log1p(count).astype(np.float32))
            out += [
                smoothed(total, count, rate).astype(np.float32) for total, rate in zip(sums, rates)
            ]
        return out


def _shared(
    categories: ItemCategories, latest: LatestRows, items: NDArray[np.int32]
) -> list[Doubles]:
    """Count, and sum per feedback type, of the latest rows that share a category: [B, N] each."""
    width = categories.count + 1
    row = np.where(latest.real, latest.item, -1)
    place, category = categories.pairs(row.ravel())
    key = place // row.shape[1] * width + category
    order = np.argsort(key, kind="stable")
    cell, wanted = categories.pairs(items.ravel())
    wanted = cell // items.shape[1] * width + wanted
    low, high = (np.searchsorted(key[order], wanted, side) for side in ("left", "right"))
    columns = [np.full(len(key), ONE, np.int64)]
    columns += [fixed_point(values.ravel()[place]) for values in latest.values]
    share = np.maximum(categories.sizes(items), 1) * float(ONE)
    out = []
    for column in columns:
        running = np.append(0, np.cumsum(column[order]))
        found = np.bincount(cell, running[high] - running[low], minlength=items.size)
        out.append(found.reshape(items.shape) / share)
    return out
