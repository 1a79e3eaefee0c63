"""`LiveState`: what a bundle's requests need, from events that came so far."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import ConfigError
from goalrank.features import EarlierRows, FeaturePlan
from goalrank.logs import Codes, LearntRetrieval, item_categories, stable_hashes
from goalrank.requests import ComputedFeatures, TableInfo, Told
from goalrank.serving.state.linked import Linked, Retrieved, first_items, side_table
from goalrank.serving.state.logged import LoggedColumns, SideTable
from goalrank.serving.state.snapshots import Snapshot
from goalrank.serving.state.state import State
from goalrank.serving.store.records import micros

__all__ = ["Asked", "LiveState", "Wished"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_SCORES = 2_000_000  # requests × known items at once: some dozen arrays of this size
Floats = NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """What is asked about a user at a moment.

    Attributes:
        user_id: id.
        time: microseconds.
        candidates: item ids.
    """

    user_id: Any
    time: int
    candidates: Sequence[Any]


@dataclass(frozen=True)
class Wished:
    """Candidates that are wished for a user at a moment.

    Attributes:
        user_id: id.
        time: microseconds.
        count: N; None takes the import's.
        exclude_seen: see `Linked.retrieve`.
    """

    user_id: Any
    time: int
    count: int | None = None
    exclude_seen: bool | None = None


class LiveState:
    """Histories and features of requests as of now, for models trained on one import.

    Its methods may be called from several threads.

    Args:
        info: description of the table that the model was trained on.
        learnt: what the import of that table learnt for retrieval and linked features.

    Attributes:
        state: the fold of events.
        linked: retrieval and linked features; None where nothing was learnt.
        lacking: features that only the caller can know.

    Raises:
        ConfigError: the table does not say how its log was read, or a family of features or a
            channel cannot be made again.
    """

    def __init__(self, info: TableInfo, learnt: LearntRetrieval | None) -> None:
        self.info = info
        plan = FeaturePlan.recorded(info.computed or ComputedFeatures(), _categories(learnt))
        self.state = State(info, plan, first_items(learnt))
        self.linked = None if learnt is None else Linked(learnt, self.state)
        linked = () if self.linked is None else self.linked.names
        self.lacking = tuple(
            name for name in info.candidate_features if name not in {*plan.names, *linked}
        )
        self._lock = threading.RLock()

    @property
    def retrieves(self) -> bool:
        """Whether candidates can be retrieved."""
        return self.linked is not None and bool(self.linked.channels)

    def add(self, events: pl.DataFrame, told: Sequence[LoggedColumns] = ()) -> None:
        """Take in events, and what is said of items and users; see `State.add` and `State.tell`."""
        with self._lock:
            if events.height:
                self.state.add(events)
            self.state.tell(told)

    def latest(self, table: SideTable, ids: Sequence[Any]) -> Told:
        """What is said of items or users; see `LatestColumns.of`. It waits for nothing.

        Args:
            table: whose ids they are.
            ids: of items or users.
        """
        return self.state.columns[table].of(ids)

    def forget(self, user: Any) -> bool:
        """Forget a user; see `State.forget`."""
        with self._lock:
            return self.state.forget(user)

    def forget_hash(self, user_hash: int) -> None:
        """Forget the user of a hash, if there is one.

        Args:
            user_hash: of `ids.hash_of`.
        """
        with self._lock:
            user = self.state.users.with_hash(user_hash)
            if user is not None:
                self.state.forget(user)

    def snapshot(self, position: int, log: str = "") -> Snapshot:
        """A copy of the state.

        Args:
            position: how far in the event log it has come.
            log: identity of the event log.
        """
        with self._lock:
            return Snapshot.of(self.state, position, log)

    def rows(self, asked: Sequence[Asked]) -> list[dict[str, Any]]:
        """History and features of requests, as columns of the requests table: a row each.

        The clock moves on to the latest moment asked, at most to now. A later moment gets the state
        of now with its own ages, an earlier one the state of the clock.

        Args:
            asked: B requests.

        Raises:
            ConfigError: features that only the caller can know.
        """
        if self.lacking:
            raise ConfigError(
                f"the model was trained with {', '.join(self.lacking)}, which are not computed from "
                f"events; remedy: send candidate_features with the request"
            )
        with self._lock:
            self._advance(max((each.time for each in asked), default=0))
            return [row for piece in self._pieces(asked) for row in self._rows(piece)]

    def _pieces(self, asked: Sequence[T]) -> Iterator[Sequence[T]]:
        """Cut requests into pieces whose scores of all known items fit into memory."""
        known = 1 if self.linked is None else max(self.linked.known, 1)
        size = max(_MOST_SCORES // known, 1)
        return (asked[begin : begin + size] for begin in range(0, len(asked), size))

    def _rows(
        self, asked: Sequence[Asked], linked: Retrieved | None = None
    ) -> list[dict[str, Any]]:
        """Rows at the clock; linked features are computed unless they are given."""
        state = self.state
        users = [each.user_id for each in asked]
        time = np.maximum(np.array([each.time for each in asked]), state.clock)
        codes = state.codes([each.candidates for each in asked])
        values = state.memory.values(state.users.find(users), codes, time)
        if linked is None and self.linked is not None:
            linked = self.linked.of(users, codes)
        counts = [len(each.candidates) for each in asked]
        return self._filled(users, counts, values, linked)

    def _advance(self, moment: int) -> None:
        """Move the clock on to a moment, but not past now: it serves later requests, too."""
        self.state.advance(min(moment, micros(datetime.now(UTC))))

    def retrieve(self, wished: Sequence[Wished]) -> list[dict[str, Any]]:
        """Candidates of requests, with their histories and features: columns of the table.

        The clock moves on as for `rows`.

        Args:
            wished: B requests.

        Raises:
            ConfigError: nothing was learnt about retrieval.
        """
        if self.linked is None:
            raise ConfigError(
                "the bundle keeps nothing about retrieval; remedy: train on a data set of goalrank "
                "data import, or give candidates (POST /v1/rank)"
            )
        alike: dict[tuple[int | None, bool | None], list[int]] = {}
        for place, each in enumerate(wished):
            alike.setdefault((each.count, each.exclude_seen), []).append(place)
        out: dict[int, dict[str, Any]] = {}
        with self._lock:
            self._advance(max((each.time for each in wished), default=0))
            for (count, exclude_seen), places in alike.items():
                for piece in self._pieces(places):
                    found = self._retrieve(
                        self.linked, [wished[place] for place in piece], count, exclude_seen
                    )
                    out.update(zip(piece, found, strict=True))
        return [out[place] for place in range(len(wished))]

    def _retrieve(
        self, linked: Linked, wished: Sequence[Wished], count: int | None, exclude_seen: bool | None
    ) -> list[dict[str, Any]]:
        users, every = [each.user_id for each in wished], self.state.items.ids
        found = linked.retrieve(users, count, exclude_seen=exclude_seen).real
        ids = [[every[code] for code in codes if code >= 0] for codes in found.candidates]
        asked = [Asked(each.user_id, each.time, own) for each, own in zip(wished, ids)]
        # Ranks among what else a channel brings are learnt as the import excluded items.
        same = exclude_seen in (None, linked.learnt.exclude_seen)
        rows = self._rows(asked, found if same else None)
        return [
            {**row, "candidates": own, "candidate_score": score[: len(own)].tolist()}
            for row, own, score in zip(rows, ids, found.score)
        ]

    def user(self, user: Any, time: int) -> dict[str, Any]:
        """What is known of a user at a moment, as JSON values.

        Args:
            user: id.
            time: microseconds.
        """
        with self._lock:
            state = self.state
            self._advance(time)
            found = state.histories([user])
            code = state.users.find([user])
            rows = state.memory.users.of(code)
            return {
                "user_id": user,
                "known": bool(code[0] >= 0),
                **self._summed(rows, counted="user" in state.memory.plan.needs.counts),
                "last_time": _moment(rows.last_time[0]) if rows.count[0] else None,
                "columns": self.latest("users", [user]).get(user, {}),
                "history": [state.items.ids[item] for item in found.item],
                "history_feedback": found.feedback.tolist(),
                "history_time": [_moment(t) for t in found.time],
            }

    def item(self, item: Any, time: int) -> dict[str, Any]:
        """What is known of an item at a moment, as JSON values.

        Args:
            item: id.
            time: microseconds.
        """
        with self._lock:
            state = self.state
            self._advance(time)
            code = state.items.find([item])
            rows = state.memory.items.of(code)
            some = bool(rows.count[0])
            columns = self.latest("items", [item]).get(item, {})
            return {
                "item_id": item,
                "known": bool(code[0] >= 0 or columns),
                "columns": columns,
                **self._summed(rows),
                "first_time": _moment(rows.first_time[0]) if some else None,
                "last_time": _moment(rows.last_time[0]) if some else None,
                "retrieved": self.linked is not None and 0 <= int(code[0]) < self.linked.known,
            }

    def _summed(self, rows: EarlierRows, *, counted: bool = True) -> dict[str, Any]:
        """Number of rows, and sum and mean per feedback type; null for what no feature needs."""
        count = int(rows.count[0])
        kinds = () if self.info.computed is None or not counted else self.info.computed.kinds
        sums = {kind: float(total[0]) for kind, total in zip(kinds, rows.sums)}
        every = self.info.feedback_kinds
        return {
            "events": count if counted else None,
            "sums": {kind: sums.get(kind) for kind in every},
            "means": {
                kind: sums[kind] / count if count and kind in sums else None for kind in every
            },
        }

    def _filled(
        self,
        users: Sequence[Any],
        counts: Sequence[int],
        values: dict[str, Floats],
        linked: Retrieved | None,
    ) -> list[dict[str, Any]]:
        values = values if linked is None else values | linked.features
        score = None if linked is None or not self.retrieves else linked.score
        found, items = self.state.histories(users), self.state.items.ids
        ends = np.cumsum(found.length)
        names = self.info.candidate_features
        table = np.stack([values[name] for name in names], axis=-1) if names else None
        return [
            {
                "history": [items[code] for code in found.item[end - length : end]],
                "history_feedback": found.feedback[end - length : end].tolist(),
                "history_time": [_moment(t) for t in found.time[end - length : end]],
                "candidate_score": None if score is None else score[row, :count].tolist(),
                "candidate_features": [] if table is None else table[row, :count].tolist(),
            }
            for row, (end, length, count) in enumerate(zip(ends, found.length, counts, strict=True))
        ]


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=int(micros))


def _categories(learnt: LearntRetrieval | None) -> dict[str, Any]:
    """Categories of items by the codes that a state gives them."""
    table = side_table(learnt)
    if table is None or learnt is None:
        return {}
    ids = table["item_id"]
    codes = Codes(ids, stable_hashes(ids), np.zeros(len(ids), np.int64))
    return {column: item_categories(table, column, codes) for column in learnt.categories}
