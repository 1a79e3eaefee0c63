"""Families of the user: activity and rates, place in the session."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from goalrank.features.family import Feature, FeatureFamily, Values
from goalrank.features.formulas import HOUR, log_span, means, smoothed
from goalrank.features.past import Needs, Past

__all__ = ["Session", "UserActivity"]

_ROWS = 50  # latest rows in which a session is looked for
_PAUSE = 0.5 * HOUR


class UserActivity(FeatureFamily):
    """How much a user does, and how readily the user answers; the same for all candidates."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """See `FeatureFamily`."""
        count = Feature(
            "user_count", "log(1 + rows)", "earlier rows of the user", "8 bytes per user"
        )
        rates = (
            Feature(
                f"user_{kind}_rate",
                "share of rows, in [0, 1]",
                f"mean of {kind} over earlier rows of the user, shrunk towards the mean m of all "
                f"earlier rows: (sum of {kind} + 10 m) / (rows + 10)",
                "8 bytes per user",
            )
            for kind in self.inputs.kinds
        )
        return (count, *rates)

    @property
    def needs(self) -> Needs:
        """See `FeatureFamily`."""
        return Needs(("user", "all"))

    def values(self, past: Past) -> Sequence[Values]:
        """See `FeatureFamily`."""
        user, overall = past.counts("user"), past.counts("all")
        rates = [
            smoothed(total, user.count, mean) for total, mean in zip(user.sums, means(overall))
        ]
        return [v.astype(np.float32) for v in (np.log1p(user.count), *rates)]


class Session(FeatureFamily):
    """Where in a session the request is; the same for all candidates."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """See `FeatureFamily`."""
        memory = f"{_ROWS} latest rows per user, which other families share"
        return (
            Feature(
                "session_position",
                "log(1 + rows)",
                f"the user's latest rows without a pause of more than 30 minutes between them or "
                f"before the request, at most {_ROWS}",
                memory,
            ),
            Feature(
                "user_idle",
                "log(1 + hours)",
                "since the user's latest row; 0 for a user without rows",
                memory,
            ),
        )

    @property
    def needs(self) -> Needs:
        """See `FeatureFamily`."""
        return Needs(latest=_ROWS)

    def values(self, past: Past) -> Sequence[Values]:
        """See `FeatureFamily`."""
        latest, now = past.latest(_ROWS), past.time[:, None]
        times = np.where(latest.real, latest.time, 0)
        later = np.concatenate([now, times[:, :-1]], axis=1)
        close = latest.real & (later - times <= _PAUSE)
        position = np.logical_and.accumulate(close, axis=1).sum(axis=1, keepdims=True)
        idle = log_span(now - times[:, :1], latest.real[:, :1], HOUR)
        return [np.log1p(position).astype(np.float32), idle]
