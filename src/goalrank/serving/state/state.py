"""`State`: what is known of users and items from the events so far, for the moment of now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import ConfigError
from goalrank.features import COUNTED, FeatureMemory, FeaturePlan, ItemSets, RowPool
from goalrank.logs import row_ties
from goalrank.requests import LogRule, TableInfo
from goalrank.serving.state.ids import IdCodes
from goalrank.serving.state.latest_columns import LatestColumns
from goalrank.serving.state.logged import LoggedColumns, SideTable
from goalrank.serving.state.pending import PendingRows
from goalrank.serving.state.rows import BEFORE, Records, RowReader

__all__ = ["CONSUMED", "LIKED", "Histories", "State"]

CONSUMED = 2
"""Mark of rows of histories."""

LIKED = 4
"""Mark of rows whose target is above 0."""

Floats = NDArray[np.float32]
Longs = NDArray[np.int64]
_BEFORE = 8  # mark of rows from before the log
_LINKED = 50  # items of a history that linked features look at


@dataclass(frozen=True)
class Histories:
    """Histories of B users, oldest first, in flat arrays one after another.

    Attributes:
        length: [B] number of items.
        item: codes.
        feedback: strengths.
        time: microseconds.
    """

    length: Longs
    item: NDArray[np.int32]
    feedback: Floats
    time: Longs


class State:
    """A deterministic fold of an event log.

    Histories are capped, and sums take constant memory per user and item, so that a row is folded
    in and can be forgotten. A row counts for requests strictly after it: rows that are not before
    the clock wait, and the clock moves on with each request. A row that comes late is folded in by
    its own time, so that the order of arrival does not matter.

    Args:
        info: description of the table that the model was trained on, with `log` and `computed`.
        plan: the features.
        items: ids that get the first codes, those that `plan` and linked features refer to.

    Attributes:
        rule: how rows are read.
        users, items: codes of ids.
        first_items: hashes of the items with the first codes.
        memory: what features need to know.
        latest: latest rows per user, those of histories and those that features look at.
        seen: consumed items per user that are in `latest` no longer, where requests leave them out.
        clock: microseconds; rows before it are folded in.
        columns: what is said of items and users, "items" and "users" → latest columns.
        newest: microseconds of the latest row.
        taken: rows taken in so far, waiting ones included.

    Raises:
        ConfigError: the table does not say how its log was read.
    """

    def __init__(self, info: TableInfo, plan: FeaturePlan, items: Sequence[Any] = ()) -> None:
        self.rule = rule_of(info)
        self.users, self.items = IdCodes(), IdCodes(items)
        self.first_items = self.items.hashes.copy()
        kinds = plan.inputs.kinds
        self._kinds = kinds if plan.needs.latest else ()
        self._strength = _place(self.rule.strength, self._kinds)
        columns = max(len(self._kinds), self._strength + 1)
        most = {COUNTED: plan.needs.latest, CONSUMED: max(self.rule.depth, _LINKED)}
        self.latest = RowPool(columns, most, self._ties)
        self.memory = FeatureMemory(plan, self.latest)
        self.seen = ItemSets()
        self._reader = RowReader(self.rule, kinds, info.target or "", self.users, self.items)
        self.pending = PendingRows(np.zeros(0, self._reader.dtype))
        self.columns: dict[SideTable, LatestColumns] = {
            "items": LatestColumns(),
            "users": LatestColumns(),
        }
        self.clock = self.newest = int(np.iinfo(np.int64).min)
        self.taken = 0

    @property
    def bytes(self) -> int:
        """Memory of the arrays and of what was said of items and users; ids are not in it."""
        told = sum(each.bytes for each in self.columns.values())
        arrays = self.memory.bytes + self.latest.bytes + self.seen.bytes
        return arrays + self.pending.bytes + told

    def add(self, events: pl.DataFrame) -> None:
        """Take in events of any time, in any order; each must come once.

        Args:
            events: see `RowReader.records`.

        Raises:
            SchemaError: a column is missing.
        """
        if BEFORE in events.columns and events[BEFORE].any():
            early = events[BEFORE].fill_null(False)
            self.take(self._reader.before_the_log(events.filter(early)))
            events = events.filter(~early)
        self.take(self._reader.records(events))

    def take(self, rows: Records) -> None:
        """Take in records of `RowReader`."""
        if not len(rows):
            return
        self.taken += len(rows)
        self.newest = max(self.newest, int(rows["time"].max()))
        past = rows["time"] < self.clock
        self._fold(rows[past])
        self.pending.add(rows[~past])

    def tell(self, told: Sequence[LoggedColumns]) -> None:
        """Take in what is said of items and users, in the order of the log; it holds at once."""
        for each in told:
            self.columns[each.table].tell(each.id, each.time, each.columns)
        self.users.add([each.id for each in told if each.table == "users"])

    def advance(self, moment: int) -> None:
        """Move the clock on to a moment; it never goes back.

        Args:
            moment: microseconds.
        """
        if moment > self.clock:
            self.clock = moment
            self._fold(self.pending.take_before(moment))

    def _fold(self, rows: Records) -> None:
        if not len(rows):
            return
        counted = rows[rows["counted"]]
        if len(counted):
            self.memory.add(
                counted["user"], counted["item"], counted["time"],
                list(np.ascontiguousarray(counted["values"].T)),
            )  # fmt: skip
        dropped = self.latest.add(
            rows["user"], rows["item"], rows["time"], _marks(rows), self._columns(rows)
        )
        if self.rule.exclude_seen:
            consumed = dropped.marks & CONSUMED > 0
            self.seen.add(dropped.user[consumed], dropped.item[consumed])

    def _columns(self, rows: Records) -> list[Floats]:
        """Values of rows, as `latest` keeps them."""
        columns = list(rows["values"].T[: len(self._kinds)])
        if self._strength == len(columns):
            return [*columns, rows["strength"]]
        own = columns[
            self._strength
        ]  # differs where a row from before the log has a strength alone
        columns[self._strength] = np.where(rows["consumed"], rows["strength"], own)
        return columns

    def _ties(
        self, user: NDArray[np.integer], item: NDArray[np.int32], marks: NDArray[np.uint8]
    ) -> NDArray[np.uint64]:
        """Keys by which rows of one time are ordered; see `goalrank.features.RowPool`."""
        if self.rule.ordered:
            return np.zeros(len(user), np.uint64)
        tie = row_ties(self.users.hashes[user], self.items.hashes[item], self.rule.seed)
        return np.where(marks & _BEFORE > 0, np.uint64(0), tie)

    def histories(self, users: Sequence[Any]) -> Histories:
        """Histories of users up to the clock.

        Args:
            users: [B] ids; unknown ones have no history.
        """
        pool = self.latest
        real, row = pool.latest(self.users.find(users), self.rule.depth, CONSUMED)
        rows = row[:, ::-1][real[:, ::-1]]
        strength = pool.values[self._strength][rows]
        return Histories(real.sum(axis=1), pool.item[rows], strength, pool.time[rows])

    def consumed(self, user: NDArray[np.int32]) -> tuple[Longs, NDArray[np.int32]]:
        """Items that users ever consumed, as flat arrays: place of the user, code.

        Empty where the rule of the log keeps what was seen. An item may come several times.

        Args:
            user: [B] codes, -1 for unknown ones.
        """
        if not self.rule.exclude_seen:
            return np.zeros(0, np.int64), np.zeros(0, np.int32)
        place, item = self.latest.items_of(user, CONSUMED)
        more_place, more = self.seen.items_of(user)
        return np.append(place, more_place), np.append(item, more)

    def features(
        self, users: Sequence[Any], candidates: Sequence[Sequence[Any]], time: Longs
    ) -> dict[str, Floats]:
        """Computed features of candidates at the clock: name → [B, N].

        Args:
            users: [B] ids.
            candidates: ids of B requests; shorter ones are padded to N.
            time: [B] microseconds, none before the clock.
        """
        return self.memory.values(self.users.find(users), self.codes(candidates), time)

    def codes(self, candidates: Sequence[Sequence[Any]]) -> NDArray[np.int32]:
        """Codes of candidates: [B, N], -1 for padding and unknown items.

        Args:
            candidates: ids of B requests; shorter ones are padded to N.
        """
        codes = np.full((len(candidates), max(map(len, candidates), default=0)), -1, np.int32)
        for row, ids in zip(codes, candidates):
            row[: len(ids)] = self.items.find(ids)
        return codes

    def forget(self, user: Any) -> bool:
        """Forget a user's rows and columns; what the rows added to items stays.

        Args:
            user: id.

        Returns:
            Whether the user was known.
        """
        code = int(self.users.find([user])[0])
        if code < 0:
            return False
        self.memory.remove(code)
        self.seen.remove(code)
        self.latest.remove(code)
        rows = self.pending.take_before(np.iinfo(np.int64).max)
        self.pending.add(rows[rows["user"] != code])
        self.columns["users"].remove(user)
        self.users.remove(code)
        return True


def _place(strength: Sequence[str], kinds: Sequence[str]) -> int:
    """Column of strength: that of the feedback type that it equals, or one after those of all."""
    return kinds.index(strength[0]) if len(strength) == 1 and strength[0] in kinds else len(kinds)


def _marks(rows: Records) -> NDArray[np.uint8]:
    marks = {COUNTED: "counted", CONSUMED: "consumed", LIKED: "liked", _BEFORE: "before"}
    each = (rows[name] * np.uint8(mark) for mark, name in marks.items())
    found: NDArray[np.uint8] = np.bitwise_or.reduce(list(each))
    return found


def rule_of(info: TableInfo) -> LogRule:
    """How the rows of a table's log were read.

    Raises:
        ConfigError: it does not say so.
    """
    if info.log is None:
        raise ConfigError(
            f"the requests of '{info.dataset}' do not say how their log was read, so no server can "
            f"go on with later events; remedy: import the log by goalrank data import and train "
            f"again, or send history and features with each request"
        )
    return info.log
