"""Families from exact counts over all earlier rows: popularity, rates, ages, repeats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from goalrank.features.family import Feature, FeatureFamily, Values
from goalrank.features.formulas import DAY, HOUR, log_span, means, smoothed
from goalrank.features.past import Needs, Past

__all__ = ["Ages", "Popularity", "Rates", "UserItem"]


class Popularity(FeatureFamily):
    """How often an item was there."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """See `FeatureFamily`."""
        meaning = "earlier rows of the item"
        return (Feature("log_popularity", "log(1 + rows)", meaning, "8 bytes per item"),)

    @property
    def needs(self) -> Needs:
        """See `FeatureFamily`."""
        return Needs(("item",))

    def values(self, past: Past) -> Sequence[Values]:
        """See `FeatureFamily`."""
        return [np.log1p(past.counts("item").count.astype(np.float32))]


class Rates(FeatureFamily):
    """How often an item was answered by each feedback type, drawn to the mean of all rows."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """See `FeatureFamily`."""
        return tuple(
            Feature(
                f"{kind}_rate",
                "share of rows, in [0, 1]",
                f"mean of {kind} over earlier rows of the item, shrunk towards the mean m of all "
                f"earlier rows: (sum of {kind} + 10 m) / (rows + 10)",
                "8 bytes per item",
            )
            for kind in self.inputs.kinds
        )

    @property
    def needs(self) -> Needs:
        """See `FeatureFamily`."""
        return Needs(("item", "all"))

    def values(self, past: Past) -> Sequence[Values]:
        """See `FeatureFamily`."""
        item, overall = past.counts("item"), past.counts("all")
        count = item.count.astype(np.float32)
        return [
            smoothed(total, count, mean).astype(np.float32)
            for total, mean in zip(item.sums, means(overall))
        ]


class Ages(FeatureFamily):
    """How old an item is, and how long it was not there."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """See `FeatureFamily`."""
        return (
            Feature(
                "item_age",
                "log(1 + days)",
                "since the item's first row; 0 for an item without rows",
                "8 bytes per item",
            ),
            Feature(
                "item_idle",
                "log(1 + hours)",
                "since the item's latest row; 0 for an item without rows",
                "8 bytes per item",
            ),
        )

    @property
    def needs(self) -> Needs:
        """See `FeatureFamily`."""
        return Needs(("item",))

    def values(self, past: Past) -> Sequence[Values]:
        """See `FeatureFamily`."""
        item, now = past.counts("item"), past.time[:, None]
        some = item.count > 0
        return [
            log_span(now - item.first_time, some, DAY),
            log_span(now - item.last_time, some, HOUR),
        ]


class UserItem(FeatureFamily):
    """How often the user had the item; only where candidates may be items of earlier rows."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """See `FeatureFamily`."""
        if not self.inputs.repeats:
            return ()
        meaning = "earlier rows of this user with this item"
        memory = "12 bytes per user and item"
        return (Feature("user_item_count", "log(1 + rows)", meaning, memory),)

    @property
    def needs(self) -> Needs:
        """See `FeatureFamily`."""
        return Needs(("user_item",)) if self.inputs.repeats else Needs()

    def values(self, past: Past) -> Sequence[Values]:
        """See `FeatureFamily`."""
        if not self.inputs.repeats:
            return []
        return [np.log1p(past.counts("user_item").count).astype(np.float32)]
