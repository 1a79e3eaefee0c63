"""Comparison of an import with a server's state that received the same events, cell by cell."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from goalrank.errors import ConfigError
from goalrank.logs import LearntRetrieval, RawLog
from goalrank.requests import Requests, TableInfo
from goalrank.serving.state.comparison.cell_counts import (
    CellCounts,
    ColumnCount,
    Difference,
    Floats,
)
from goalrank.serving.state.event_log import EventLog
from goalrank.serving.state.event_rules import EventRules
from goalrank.serving.state.keeper import StateKeeper
from goalrank.serving.state.live import Asked, Wished
from goalrank.serving.state.logged import LoggedEvent, SideTable
from goalrank.serving.state.replay import event_batches, rows_for, rows_of
from goalrank.serving.store.records import micros
from goalrank.serving.store.store import Store

__all__ = ["Comparison", "compare_log"]

_HISTORY = ("history", "history_feedback", "history_time")
_SCORE, _FEATURES = "candidate_score", "candidate_features"
_RETRIEVED = "retrieved candidates"
Row = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
        events: events that the server received.
        requests: requests that were compared.
        linked: those of them after the latest refit, whose linked features and candidates were
            compared too; a bundle keeps no earlier refit.
        columns: counts per column.
        first: the first cells that differ.
    """

    events: int
    requests: int
    linked: int
    columns: tuple[ColumnCount, ...]
    first: tuple[Difference, ...]

    @property
    def compared(self) -> int:
        """Number of cells."""
        return sum(column.compared for column in self.columns)

    @property
    def different(self) -> int:
        """Number of cells that differ."""
        return sum(column.different for column in self.columns)


def compare_log(
    raw: RawLog,
    tables: Sequence[Requests],
    learnt: LearntRetrieval | None,
    *,
    most: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Send the rows of a raw log to a server's state, and ask it for each request of its import.

    Events go through a store, and answers come from its `StateKeeper`, as a server's do; HTTP alone
    is left out. Requests are asked at their own times, between the events before and after them.

    Args:
        raw: the log, as the import read it.
        tables: requests of the import.
        learnt: what the import learnt.
        most: compare at most so many requests, drawn at random; None compares all.
        seed: of the draw.
        progress: called with (events received, events in all).

    Raises:
        ConfigError: the import cannot be served from events, or is of another log.
    """
    info = tables[0].info
    raw = rows_for(raw, info)
    rows = _requests(tables, most, seed)
    asking = _Asking(rows, info, learnt)
    ids: dict[SideTable, pl.DataType] = {
        "users": rows["user_id"].dtype,
        "items": rows["candidates"].explode().dtype,
    }
    rules, now = EventRules.from_ids(info, ids), datetime.now(UTC)
    done, total = 0, rows_of(raw)
    with _keeper(info, learnt) as keeper:
        for events in event_batches(raw, info):
            rules.check(events, now)
            done += keeper.append(events).stored
            asking.ask(keeper, _end(events))
            if progress is not None:
                progress(done, total)
        asking.ask(keeper, np.iinfo(np.int64).max)
    return Comparison(done, rows.height, asking.linked, *asking.counts.result)


@contextmanager
def _keeper(info: TableInfo, learnt: LearntRetrieval | None) -> Iterator[StateKeeper]:
    """A server's state with a store of its own, which goes with it."""
    with tempfile.TemporaryDirectory(prefix="goalrank-compare-") as folder:
        place = Path(folder)
        with Store(f"sqlite:///{place / 'events.db'}") as store:
            keeper = StateKeeper(info, learnt, EventLog(store.engine), place / "state")
            try:
                yield keeper
            finally:
                keeper.close()


def _requests(tables: Sequence[Requests], most: int | None, seed: int) -> pl.DataFrame:
    """Requests by time, or some of them."""
    frame = pl.concat([table.frame for table in tables])
    if most is not None and most < frame.height:
        chosen = np.random.default_rng(seed).choice(frame.height, most, replace=False)
        frame = frame[np.sort(chosen)]
    return frame.sort("time", maintain_order=True)


def _end(events: Sequence[LoggedEvent]) -> int:
    """Moment up to which all events have come, where those before the log come first."""
    return np.iinfo(np.int64).min if events[-1].before else events[-1].time


class _Asking:
    """Asks for requests in order of time, and counts what differs.

    Args:
        rows: requests by time.
        info: their description.
        learnt: what their import learnt.

    Attributes:
        counts: cells so far.
        linked: requests after the latest refit so far.

    Raises:
        ConfigError: the time of the latest refit is not known.
    """

    def __init__(self, rows: pl.DataFrame, info: TableInfo, learnt: LearntRetrieval | None) -> None:
        if learnt is not None and learnt.moment is None:
            raise ConfigError(
                "the data set does not say when its retrieval was learnt, so the requests after it "
                "cannot be told; remedy: import the log again (argument: data)"
            )
        self._info, self.linked = info, 0
        self._since = np.iinfo(np.int64).max if learnt is None else learnt.moment
        self._retrieves = info.protocol == "retrieved"
        asked = ("request_id", "user_id", "time", "candidates", *_HISTORY, _FEATURES)
        self._rows = rows.select(*asked, *([_SCORE] if self._retrieves else []))
        self._times = rows["time"].cast(pl.Int64).to_numpy()
        self._next = 0
        self.counts = CellCounts(info.candidate_features)

    def ask(self, keeper: StateKeeper, until: int) -> None:
        """Ask for the requests up to a moment that were not asked for yet.

        Args:
            keeper: the server's state.
            until: microseconds.
        """
        end = int(np.searchsorted(self._times, until, side="right"))
        linked = set() if keeper.live.linked is None else set(keeper.live.linked.names)
        early = np.array([name not in linked for name in self._info.candidate_features])
        for row, features in _split(self._rows[self._next : end]):
            time = micros(row["time"])
            late = self._since is not None and time >= self._since
            self.linked += late
            asked = Asked(row["user_id"], time, row["candidates"])
            self._count(row, features, keeper.rows([asked])[0], late, early | late)
            if late and self._retrieves:
                found = keeper.live.retrieve([Wished(row["user_id"], time)])[0]
                self._count_retrieved(row, found)
        self._next = end

    def _count(
        self, row: Row, features: Floats, found: Mapping[str, Any], late: bool, known: Any
    ) -> None:
        counts, request = self.counts, row["request_id"]
        for name in _HISTORY:
            counts.lists(name, request, row[name], found[name])
        if late and self._retrieves:
            counts.items(_SCORE, request, _scores(row), dict(zip(row["candidates"], found[_SCORE])))
        mine = np.array(found[_FEATURES], np.float32).reshape(features.shape)
        counts.features(request, row["candidates"], features, mine, known)

    def _count_retrieved(self, row: Row, found: Mapping[str, Any]) -> None:
        scores = dict(zip(found["candidates"], found[_SCORE]))
        self.counts.items(_RETRIEVED, row["request_id"], _scores(row), scores)


def _scores(row: Row) -> dict[Any, float]:
    return dict(zip(row["candidates"], row[_SCORE]))


def _split(rows: pl.DataFrame) -> Iterator[tuple[Row, Floats]]:
    """Requests, each with its features [N, F]."""
    plain = rows.drop(_FEATURES).iter_rows(named=True)
    for row, features in zip(plain, rows[_FEATURES], strict=True):
        yield row, features.to_numpy()
