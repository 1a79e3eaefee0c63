"""`State`: what is known of users and items from the events so far, for the moment of now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import ConfigError
from goalrank.features import FeatureMemory, FeaturePlan, PairTable, RowPool
from goalrank.requests import LogRule, TableInfo
from goalrank.serving.state.ids import IdCodes
from goalrank.serving.state.latest_columns import LatestColumns
from goalrank.serving.state.logged import LoggedColumns, SideTable
from goalrank.serving.state.pending import PendingRows
from goalrank.serving.state.rows import BEFORE, Records, RowReader

__all__ = ["Histories", "State"]

Floats = NDArray[np.float32]
Longs = NDArray[np.int64]
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
        history: latest consumed items per user; values are strength, and 1 where liked.
        seen: all consumed items per user, where requests leave them out.
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
        self.memory = FeatureMemory(plan)
        self.history = RowPool(2, max(self.rule.depth, _LINKED))
        self.seen = PairTable()
        self._reader = RowReader(
            self.rule, plan.inputs.kinds, info.target or "", self.users, self.items
        )
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
        arrays = self.memory.bytes + self.history.bytes + self.seen.bytes
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
                counted["user"], counted["item"], counted["time"], counted["tie"],
                list(np.ascontiguousarray(counted["values"].T)),
            )  # fmt: skip
        used = rows[rows["consumed"]]
        if len(used):
            values = [used["strength"], used["liked"].astype(np.float32)]
            self.history.add(used["user"], used["item"], used["time"], used["tie"], values)
            if self.rule.exclude_seen:
                self.seen.add(used["user"], used["item"])

    def histories(self, users: Sequence[Any]) -> Histories:
        """Histories of users up to the clock.

        Args:
            users: [B] ids; unknown ones have no history.
        """
        latest = self.history.latest(self.users.find(users), self.rule.depth)
        real = latest.real[:, ::-1]
        strength = latest.values[0]
        return Histories(
            real.sum(axis=1),
            latest.item[:, ::-1][real],
            strength[:, ::-1][real],
            latest.time[:, ::-1][real],
        )

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
        if code < len(self.history.size):
            self.history.remove(code)
        rows = self.pending.take_before(np.iinfo(np.int64).max)
        self.pending.add(rows[rows["user"] != code])
        self.columns["users"].remove(user)
        self.users.remove(code)
        return True


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
