"""Replay of a raw log: its rows as events of an event log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import polars as pl

from goalrank.bundles import Bundle
from goalrank.errors import ConfigError
from goalrank.logs import RawLog, as_imported
from goalrank.requests import TableInfo
from goalrank.serving.state.event_log import Appended, EventLog
from goalrank.serving.state.event_rules import EventRules
from goalrank.serving.state.logged import LoggedEvent
from goalrank.serving.state.state import rule_of
from goalrank.serving.store.store import Store

__all__ = ["event_batches", "replay", "replay_log", "rows_for", "rows_of"]

_BATCH = 5_000
_WHO_WHAT_WHEN = ("user_id", "item_id", "time")
_KNOWN_ORDER = ("request_id", "position", "order")  # as imports order rows of one time
_COPY = "copy"


def replay(
    raw: RawLog,
    info: TableInfo,
    rules: EventRules,
    log: EventLog,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Appended:
    """Append the rows of a raw log to an event log, in order of time; again changes nothing.

    Args:
        raw: a log as its reader gives it, read as for the import of the bundle's data; perhaps other
            rows. Its rows become what that import would make of them.
        info: description of the table that the server's model was trained on.
        rules: what its events must be like.
        log: that servers follow.
        progress: called with (rows done, rows in all).

    Returns:
        New events and those that were there already.

    Raises:
        ConfigError: the log is read in another way than that of the model, or a row breaks
            `EventRules`; batches before that row are stored.
        StoreError: the store refuses.
    """
    raw = rows_for(raw, info)
    total, now = rows_of(raw), datetime.now(UTC)
    stored = done = 0
    last = log.last
    for events in event_batches(raw, info):
        rules.check(events, now)
        part = log.append(events)
        stored, done, last = stored + part.stored, done + len(events), part.last
        if progress is not None:
            progress(done, total)
    return Appended(stored, done - stored, last)


def replay_log(
    raw: RawLog,
    bundle: Bundle,
    store: str,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Appended:
    """`replay` into the event log of a store.

    Args:
        raw: as for `replay`.
        bundle: of the servers' model.
        store: address of the servers' store.
        progress: as for `replay`.

    Raises:
        ConfigError, StoreError: as `replay`; the store cannot be opened.
    """
    with Store(store) as opened:
        info, rules = bundle.encoder.info, EventRules.of(bundle)
        return replay(raw, info, rules, EventLog(opened.engine), progress=progress)


def rows_for(raw: RawLog, info: TableInfo) -> RawLog:
    """The rows of a log that the import of a table makes requests of.

    Args:
        raw: the log as its reader gives it.
        info: description of the table.

    Raises:
        ConfigError: rows were chosen by another target than the table's.
        DataError: nothing was consumed.
    """
    made = as_imported(raw, info.protocol)
    if made.positives_only and made.target != info.target:
        raise ConfigError(
            f"the model's interactions are the rows with {info.target} > 0, but '{raw.dataset}' was "
            f"read with target {made.target}; remedy: the target of the model's import (option: "
            f"target)"
        )
    return made


def rows_of(raw: RawLog) -> int:
    """Number of a raw log's rows, with those of before it began."""
    return raw.events.height + (0 if raw.prior is None else raw.prior.height)


def _kinds(raw: RawLog, info: TableInfo) -> list[str]:
    """Feedback types that events carry.

    Raises:
        ConfigError: the log has another shape or other types than the model's.
    """
    rule = rule_of(info)
    if raw.shape != rule.shape:
        raise ConfigError(
            f"'{raw.dataset}' is a log of {raw.shape}, but the model was trained on one of "
            f"{rule.shape}; remedy: the source of the model's import (argument: source)"
        )
    lacking = sorted(set(raw.kinds) ^ set(info.feedback_kinds))
    if lacking:
        raise ConfigError(
            f"'{raw.dataset}' has the feedback types {', '.join(raw.kinds)}, but the model knows "
            f"{', '.join(info.feedback_kinds)}; remedy: the options of the model's import (options: "
            f"kinds, set)"
        )
    return [kind for kind in info.feedback_kinds if kind in raw.events.columns]


def event_batches(raw: RawLog, info: TableInfo) -> Iterator[list[LoggedEvent]]:
    """Events of a raw log: first what was before it began, then its rows in order of time.

    Args:
        raw: the log, see `rows_for`.
        info: description of the table that the server's model was trained on.

    Raises:
        ConfigError: the log has another shape or other feedback types than the model's.
    """
    kinds = _kinds(raw, info)
    if raw.prior is not None:
        prior = _numbered(raw.prior.select(*_WHO_WHAT_WHEN, "strength"), copies=False)
        yield from _events(prior, ["strength"], before=True)
    known = [name for name in _KNOWN_ORDER if name in raw.events.columns]
    rows = raw.events.sort("time", *known, nulls_last=True, maintain_order=True)
    carried = [name for name in ("shown",) if name in rows.columns]
    rows = _numbered(rows.select(*_WHO_WHAT_WHEN, *kinds, *carried), copies=raw.copies)
    yield from _events(rows, kinds, before=False)


def _numbered(rows: pl.DataFrame, *, copies: bool) -> pl.DataFrame:
    """Rows with their number among equal rows, which is 0 where copies are to be left out."""
    number = pl.lit(0) if copies else pl.int_range(pl.len()).over(rows.columns)
    return rows.with_columns(number.alias(_COPY))


def _events(rows: pl.DataFrame, kinds: list[str], *, before: bool) -> Iterator[list[LoggedEvent]]:
    for part in rows.iter_slices(_BATCH):
        yield [
            LoggedEvent(
                row["user_id"], row["item_id"], row["time"],
                {kind: row[kind] for kind in kinds if row[kind] is not None},
                shown=row.get("shown") is not False, before=before, copy=row[_COPY],
            )
            for row in part.iter_rows(named=True)
        ]  # fmt: skip
