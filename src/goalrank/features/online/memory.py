"""What a plan of features needs to know of all rows so far, kept up to date row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from goalrank.features.decay import DecayedTotals, HalfLife
from goalrank.features.online.key_totals import KeyTotals
from goalrank.features.online.pair_table import PairTable
from goalrank.features.online.row_pool import RowPool
from goalrank.features.past import DecayedRows, EarlierRows, Key, LatestRows
from goalrank.features.plan import FeaturePlan

__all__ = ["COUNTED", "FeatureMemory"]

COUNTED = 1
"""Mark of rows that features count."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


class FeatureMemory:
    """Facts of the past for one plan.

    A fold of rows: counts and sums do not depend on the order in which rows come, and the latest
    rows of a user are in order of time. Those stand in a pool that others look into as well, so that
    each row is kept once: its owner adds the rows.

    Args:
        plan: the features.
        latest: latest rows of users; the first values are those of the plan's feedback types.

    Attributes:
        plan, latest: as given.
        rows: rows taken in.
    """

    def __init__(self, plan: FeaturePlan, latest: RowPool) -> None:
        self.plan, self.latest, self.rows = plan, latest, 0
        width = len(plan.inputs.kinds)
        self.all, self.items, self.users = KeyTotals(width), KeyTotals(width), KeyTotals(width)
        self.decayed = {
            hours: DecayedTotals(HalfLife(hours), 0, 1 + width) for hours in plan.needs.half_lives
        }
        self.pairs = PairTable()

    @property
    def bytes(self) -> int:
        """Memory of all arrays but the latest rows."""
        decayed = (
            t.epoch.nbytes + t.older.nbytes + t.current.nbytes for t in self.decayed.values()
        )
        parts = (self.items, self.users, self.pairs)
        return sum(decayed) + sum(part.bytes for part in parts)

    def add(
        self,
        user: NDArray[np.integer],
        item: NDArray[np.integer],
        time: Longs,
        values: Sequence[Floats],
    ) -> None:
        """Take in rows, in any order.

        Args:
            user: [n] codes.
            item: [n] codes.
            time: [n] microseconds.
            values: an array [n] per feedback type of the plan.
        """
        plan = self.plan
        self.rows += len(user)
        self.all.add(np.zeros(len(user), np.int64), time, values)
        self.items.add(item, time, values)
        if "user" in plan.needs.counts:
            self.users.add(user, time, values)
        if "user_item" in plan.needs.counts:
            self.pairs.add(user, item)
        for totals in self.decayed.values():
            totals.grow(len(self.items.count))
            totals.add(item, time, [None, *values])

    def remove(self, user: int) -> None:
        """Forget a user; what the user's rows added to items stays."""
        if user < len(self.users.count):
            self.users.remove(user)
        self.pairs.remove(user)

    def values(self, user: Ints, items: Ints, time: Longs) -> dict[str, Floats]:
        """Features of candidates at moments after all rows so far: name → [B, N].

        Args:
            user: [B] codes, -1 for an unknown user.
            items: [B, N] codes, -1 for none or unknown.
            time: [B] microseconds.
        """
        return self.plan.values(_Now(self, user, items, time))


@dataclass(frozen=True)
class _Now:
    """What was before requests of now; see `goalrank.features.Past`."""

    memory: FeatureMemory
    user: Ints
    items: Ints
    time: Longs
    _counts: dict[Key, EarlierRows] = field(default_factory=dict)  # several families ask for a key

    def counts(self, key: Key) -> EarlierRows:
        if key not in self._counts:
            self._counts[key] = self._counted(key)
        return self._counts[key]

    def _counted(self, key: Key) -> EarlierRows:
        memory, user = self.memory, self.user[:, None]
        made: dict[Key, Callable[[], EarlierRows]] = {
            "item": lambda: memory.items.of(self.items),
            "all": lambda: memory.all.of(np.zeros_like(user)),
            "user": lambda: memory.users.of(user),
            "user_item": lambda: EarlierRows.counted(memory.pairs.count(user, self.items)),
        }
        return made[key]()

    def decayed(self, hours: float) -> DecayedRows:
        totals = self.memory.decayed[hours]
        known = np.where(self.items < len(totals.epoch), self.items, -1)
        count, *sums = totals.at(known, self.time[:, None])
        return DecayedRows(count, tuple(sums))

    def latest(self, rows: int) -> LatestRows:
        pool, kinds = self.memory.latest, len(self.memory.plan.inputs.kinds)
        real, row = pool.latest(self.user, rows, COUNTED)
        values = tuple(column[row] for column in pool.values[:kinds])
        return LatestRows(real, pool.item[row], pool.time[row], values)
