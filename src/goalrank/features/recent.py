"""Families of late: an item's popularity and rates, where older rows weigh less."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from goalrank.features.family import Feature, FeatureFamily, Values
from goalrank.features.formulas import means, smoothed
from goalrank.features.past import Needs, Past

__all__ = ["RecentPopularity", "RecentRates"]

_LIVES = {"1d": 24.0, "7d": 168.0}  # hours
_MEMORY = "24 bytes per item and half-life"


class RecentPopularity(FeatureFamily):
    """How often an item was there of late, by a half-life of one day and of seven."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """See `FeatureFamily`."""
        each = (
            Feature(
                f"log_popularity_{name}",
                "log(1 + rows)",
                f"earlier rows of the item, each weighed by 2^(-age / {hours:g} hours)",
                _MEMORY,
            )
            for name, hours in _LIVES.items()
        )
        trend = Feature(
            "popularity_trend",
            "log of a ratio",
            "log((1 + rows of the one-day half-life) / (1 + a seventh of the rows of the "
            "seven-day one)): above 0 where an item gains",
            "none of its own",
        )
        return (*each, trend)

    @property
    def needs(self) -> Needs:
        """See `FeatureFamily`."""
        return Needs(half_lives=tuple(_LIVES.values()))

    def values(self, past: Past) -> Sequence[Values]:
        """See `FeatureFamily`."""
        day, week = (past.decayed(hours).count for hours in _LIVES.values())
        trend = np.log1p(day) - np.log1p(week / 7)
        return [v.astype(np.float32) for v in (np.log1p(day), np.log1p(week), trend)]


class RecentRates(FeatureFamily):
    """How an item was answered of late, drawn to its rate over all time."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """See `FeatureFamily`."""
        return tuple(
            Feature(
                f"{kind}_rate_{name}",
                "share of rows, in [0, 1]",
                f"mean of {kind} over earlier rows of the item, each weighed by 2^(-age / {hours:g} "
                f"hours), shrunk towards the item's {kind}_rate r: (sum of {kind} + 10 r) / (rows + 10)",
                _MEMORY,
            )
            for name, hours in _LIVES.items()
            for kind in self.inputs.kinds
        )

    @property
    def needs(self) -> Needs:
        """See `FeatureFamily`."""
        return Needs(("item", "all"), tuple(_LIVES.values()))

    def values(self, past: Past) -> Sequence[Values]:
        """See `FeatureFamily`."""
        item, overall = past.counts("item"), past.counts("all")
        rates = [
            smoothed(total, item.count, mean) for total, mean in zip(item.sums, means(overall))
        ]
        out = []
        for hours in _LIVES.values():
            late = past.decayed(hours)
            out += [smoothed(total, late.count, rate) for total, rate in zip(late.sums, rates)]
        return [rate.astype(np.float32) for rate in out]
