"""Point-in-time features of the candidates of a log's requests, from rows strictly before each.

The features themselves are defined in `goalrank.features`; here is what is known of the past of a
log. Linked features (item-to-item, affinity) combine the request's history with links learned
before the latest refit. Train, validation and test use the same definitions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from goalrank.features import (
    DecayedRows,
    EarlierRows,
    FeaturePlan,
    Key,
    LatestRows,
)
from goalrank.logs.events.arrays import Events, Ints, Longs
from goalrank.logs.events.request_points import RequestPoints
from goalrank.logs.events.running_counts import ItemsBefore, RunningCounts
from goalrank.logs.events.time_index import index_by_time
from goalrank.logs.events.user_rows import OwnRows, UserRows
from goalrank.logs.spill.buckets import chunk_ranges
from goalrank.logs.spill.folder import Spill

__all__ = ["LogFeatures"]

Floats = NDArray[np.float32]
_CELLS = 100_000  # candidates, or rows of users, that are looked at together


class LogFeatures:
    """Features of a plan at the requests of a log.

    Args:
        log: rows to count (all shown exposures, or all interactions).
        items: number of items.
        plan: the features; its kinds are columns of ``log.values``.
        shown_only: whether rows that were not shown are left out.
        spill: room for the rows in order of time.

    Attributes:
        times: [E] microseconds of the counted rows, ascending.
        plan: as given.
        names: of the features, in the order of `of`.
    """

    def __init__(
        self, log: Events, items: int, plan: FeaturePlan, *, shown_only: bool, spill: Spill
    ) -> None:
        kinds = plan.inputs.kinds
        shown = log.shown if shown_only and log.carried is not None else None
        index = index_by_time(log, kinds, shown, spill, "by-time")
        self.times, self.plan, self.names = index.time, plan, plan.names
        self._counts = RunningCounts(index, items, kinds, half_lives=plan.needs.half_lives)
        self._users = UserRows(log, kinds, shown, sums="user" in plan.needs.counts, spill=spill)

    def of(self, points: RequestPoints, candidates: Ints) -> dict[str, Floats]:
        """Features of the candidates: name → [B, N].

        Args:
            points: B requests by time, none earlier than in the call before.
            candidates: [B, N] codes, -1 for none.
        """
        size = max(1, _CELLS // max(candidates.shape[1], self.plan.needs.latest))
        parts = [
            self._of(points.take(np.arange(p.start, p.stop)), candidates[p])
            for p in chunk_ranges(len(points), size)
        ]
        parts = parts or [self._of(points, candidates)]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.names}

    def _of(self, points: RequestPoints, candidates: Ints) -> dict[str, Floats]:
        items = self._counts.before(candidates, points.time)
        past = _LogPast(candidates, points, items, self._users, self.plan.needs.latest)
        return self.plan.values(past)


@dataclass(frozen=True)
class _LogPast:
    """What was before some requests of a log; see `goalrank.features.Past`."""

    items: Ints
    points: RequestPoints
    of_items: ItemsBefore
    users: UserRows
    depth: int

    @property
    def time(self) -> Longs:
        return self.points.time

    @cached_property
    def _own(self) -> OwnRows:
        return self.users.of(self.points)

    @cached_property
    def _of_users(self) -> EarlierRows:
        return self.users.counts(self._own)

    @cached_property
    def _latest(self) -> LatestRows:
        return self.users.latest(self._own, self.depth)

    def counts(self, key: Key) -> EarlierRows:
        made: dict[Key, Callable[[], EarlierRows]] = {
            "item": lambda: self.of_items.each,
            "all": lambda: self.of_items.whole.column,
            "user": lambda: self._of_users,
            "user_item": lambda: EarlierRows.counted(self.users.pair_counts(self._own, self.items)),
        }
        return made[key]()

    def decayed(self, hours: float) -> DecayedRows:
        return self.of_items.decayed[hours]

    def latest(self, rows: int) -> LatestRows:
        return self._latest.first(rows)
