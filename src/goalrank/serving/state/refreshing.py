"""Retrieval learnt anew from the events of a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import sqlalchemy as sa

from goalrank.errors import ConfigError
from goalrank.logs import LearntRetrieval, LogRows, refresh
from goalrank.requests import TableInfo
from goalrank.serving.state.event_log import EVENTS, EventLog
from goalrank.serving.state.ids import IdCodes
from goalrank.serving.state.logged import id_series
from goalrank.serving.state.rows import BEFORE, Records, RowReader
from goalrank.serving.state.state import rule_of
from goalrank.serving.store.records import micros
from goalrank.serving.store.store import Store

__all__ = ["refreshed_retrieval"]

_COVERED = 0.99  # share of the import's items that events before its latest refit must have
_FEWEST = 0.5  # share of its rows; those of users who were forgotten since are lacking


def refreshed_retrieval(
    store: Store,
    info: TableInfo,
    learnt: LearntRetrieval,
    *,
    until: datetime,
    side: pl.DataFrame | None = None,
    exclude: Sequence[tuple[datetime, datetime]] = (),
    say: Callable[[str], None] = lambda text: None,
) -> LearntRetrieval:
    """What retrieval and linked features learn from all events of a store.

    Args:
        store: the server's; its events reach back to the begin of the imported log (`goalrank
            events replay`).
        info: of the training requests.
        learnt: of their import.
        until: events before this time are learnt.
        side: see `goalrank.logs.refresh`.
        exclude: time ranges [from, to) whose events are not learnt.
        say: told that a part of the imported log is lacking.

    Raises:
        ConfigError: the store has no events, these are not those of the imported log and later, or
            what was imported cannot be learnt anew.
        StoreError: the events cannot be read.
    """
    rule = rule_of(info)
    rows = _rows(store, info)
    if learnt.moment is not None:
        _check_covered(rows, learnt, learnt.moment, say)
    for start, end in exclude:
        rows = rows.only((rows.time < micros(start)) | (rows.time >= micros(end)))
    return refresh(learnt, rows, until=micros(until), side=side, seed=rule.seed)


def _rows(store: Store, info: TableInfo) -> LogRows:
    users, items = IdCodes(), IdCodes()
    reader = RowReader(rule_of(info), (), info.target or "", users, items)
    parts: list[Records] = [np.zeros(0, reader.dtype)]
    if sa.inspect(store.engine).has_table(EVENTS.name):
        for part in EventLog(store.engine).after(0):
            if part.events.height:
                parts += _records(reader, part.events)
    rows = np.concatenate(parts)
    names = ("user", "item", "time", "tie", "consumed", "liked")
    columns: dict[str, Any] = {name: np.ascontiguousarray(rows[name]) for name in names}
    return LogRows(users=id_series(users.ids), items=id_series(items.ids), **columns)


def _records(reader: RowReader, events: pl.DataFrame) -> list[Records]:
    """Records of events; of those before the log began apart from the others."""
    early = events[BEFORE].fill_null(False)
    if not early.any():
        return [reader.records(events)]
    return [reader.before_the_log(events.filter(early)), reader.records(events.filter(~early))]


def _check_covered(
    rows: LogRows, learnt: LearntRetrieval, moment: int, say: Callable[[str], None]
) -> None:
    """Refuse events that do not hold the imported log: all that it knew would be forgotten."""
    known = learnt.items["item_id"].head(learnt.known)
    before = rows.time < moment
    early = np.unique(rows.item[before])
    found = rows.items.gather(early) if len(early) else known.clear()
    same = (found.dtype == pl.String) == (known.dtype == pl.String)
    share = float(known.is_in(found.cast(known.dtype).implode()).mean() or 0.0) if same else 0.0  # type: ignore[arg-type]
    if share < _COVERED:
        raise ConfigError(_lacking(share, "items"))
    share = int((before & rows.consumed).sum()) / learnt.rows if learnt.rows else 1.0
    if share < _FEWEST:
        raise ConfigError(_lacking(share, "rows"))
    if share < _COVERED:
        say(_lacking(share, "rows", "forgets"))


def _lacking(share: float, what: str, does: str = "would forget") -> str:
    return (
        f"the store's events hold {share:.0%} of the {what} of the imported log, so that retrieval "
        f"{does} the others; remedy: goalrank events replay, once, with the imported log"
    )
