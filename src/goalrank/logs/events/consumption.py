"""A raw log as arrays: all events, and the consumed items."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import DataError
from goalrank.features import MOST_SUMMED
from goalrank.logs.events.arrays import Codes, Events, row_starts
from goalrank.logs.events.ordering import OrderedRows, order_rows
from goalrank.logs.options import Protocol
from goalrank.logs.readers.raw_log import CARRIED, RawLog
from goalrank.logs.spill.buckets import Records
from goalrank.logs.spill.folder import Spill

__all__ = ["CONSUMED", "ConsumptionLog", "as_imported", "to_arrays"]

CONSUMED = "consumed"  # feedback type of the injected protocol: 1 for consumed items


@dataclass(frozen=True)
class ConsumptionLog:
    """A raw log as arrays.

    Attributes:
        raw: the log, without its rows.
        users: codes of users.
        items: codes of items.
        events: all rows; counts and feedback come from them.
        history: consumed items only.
    """

    raw: RawLog
    users: Codes
    items: Codes
    events: Events
    history: Events


def as_imported(raw: RawLog, protocol: Protocol) -> RawLog:
    """The rows of a log that an import makes requests of.

    Without shown lists to rank these are interactions: the positives of an exposure log, all rows
    of any other.

    Args:
        raw: the log as its reader gives it.
        protocol: where candidates come from; with ``injected``, consumption becomes the target.

    Raises:
        DataError: nothing was consumed.
    """
    if protocol == "exposed":
        return raw
    events = raw.events
    if raw.shape == "exposures":
        events = events.filter(pl.col(raw.target) > 0)
        raw = replace(raw, shape="interactions", prior=None, rate_kinds=(), positives_only=True)
    if protocol == "injected":
        events = events.with_columns(pl.lit(1.0, pl.Float32).alias(CONSUMED))
        raw = replace(raw, kinds=(CONSUMED, *raw.kinds), target=CONSUMED)
    if events.height == 0:
        raise DataError(f"{raw.dataset}: no row with {raw.target} > 0; nothing was consumed")
    return replace(raw, events=events)


def to_arrays(raw: RawLog, spill: Spill, seed: int = 0) -> ConsumptionLog:
    """Turn a log into arrays on disk: codes by first appearance in time, rows by user and time.

    Args:
        raw: the log.
        spill: room for the arrays.
        seed: of the order of rows that share a time.

    Raises:
        DataError: a value that features average is too large to be summed up.
    """
    _refuse_large(raw)
    columns = tuple(dict.fromkeys((*raw.kinds, *raw.rate_kinds, raw.strength, *raw.features)))
    ordered = order_rows(
        raw.events, raw.prior, columns, seed=seed, drop_copies=raw.copies, spill=spill
    )
    if raw.shape == "interactions":
        made = _Tables(spill, {"events": columns})
        for rows in ordered.buckets:
            made.add("events", rows)
        raw = _without_copies(raw, made.rows["events"])
        events = _with_carried(made.events("events", ordered), made.row("events"), raw)
        return ConsumptionLog(_without_rows(raw), ordered.users, ordered.items, events, events)
    made = _Tables(spill, {"events": columns, "history": (raw.strength,)})
    shown = _shown(raw)
    prior = 0 if raw.prior is None else raw.prior.height
    for rows in ordered.buckets:
        own = rows[~rows["prior"]]
        made.add("events", own)
        taken = rows["prior"].copy()
        taken[~rows["prior"]] = (own[raw.strength] > 0) & shown[own["row"] - prior]
        made.add("history", _with_strength(rows[taken], raw))
    events = _with_carried(made.events("events", ordered), made.row("events") - prior, raw)
    history = made.events("history", ordered)
    return ConsumptionLog(_without_rows(raw), ordered.users, ordered.items, events, history)


def _refuse_large(raw: RawLog) -> None:
    """Refuse values that a server's events may not have either."""
    for kind in raw.rate_kinds:
        ends = raw.events.select(low=pl.col(kind).min(), high=pl.col(kind).max()).row(0)
        largest = max((float(end) for end in ends if end is not None), key=abs, default=0.0)
        if abs(largest) > MOST_SUMMED:
            raise DataError(
                f"{raw.dataset}: {kind} has the value {largest:g}, but features average it, and it "
                f"must be between -1e6 and 1e6 (as in events that a server receives); remedy: "
                f"another unit"
            )


def _without_copies(raw: RawLog, left: int) -> RawLog:
    """The log, of which `left` rows are not copies of others; the copies are noted."""
    if not raw.copies:
        return raw
    copies = raw.events.height - left
    raw.notes.leave_out("rows", copies, raw.events.height, "exact copies of other rows")
    return replace(raw, counts={**raw.counts, "duplicates_dropped": copies})


def _shown(raw: RawLog) -> NDArray[np.bool_]:
    """[E] whether each row of the log's frame was shown."""
    if "shown" not in raw.events.columns:
        return np.ones(raw.events.height, bool)
    return raw.events["shown"].fill_null(False).to_numpy()


def _with_strength(rows: Records, raw: RawLog) -> Records:
    """Consumed rows, those of before the log with their own strength."""
    if raw.prior is not None and rows["prior"].any():
        strength = raw.prior["strength"].to_numpy()
        rows[raw.strength][rows["prior"]] = strength[rows["row"][rows["prior"]]]
    return rows


def _without_rows(raw: RawLog) -> RawLog:
    """The log without what its arrays hold now."""
    return replace(raw, events=raw.events.clear(), prior=None)


def _with_carried(events: Events, row: NDArray[np.int64], raw: RawLog) -> Events:
    """Events with the columns that travel as they are, and the numbers of requests."""
    frame = raw.events
    carried = [name for name in CARRIED if name in frame.columns]
    if not carried and "request_id" not in frame.columns:
        return events
    request = frame["request_id"].gather(row).to_numpy() if "request_id" in frame.columns else None
    return replace(
        events,
        request=request,
        carried=frame.select(pl.col(carried).gather(pl.lit(pl.Series(row)))) if carried else None,
    )


class _Tables:
    """Tables of rows by user and time, written bucket by bucket."""

    def __init__(self, spill: Spill, columns: dict[str, tuple[str, ...]]) -> None:
        kinds: dict[str, Any] = {"user": np.int32, "item": np.int32, "time": np.int64}
        self._columns = columns
        self._files = {
            table: {
                name: spill.array(f"{table}-{number}", kind)
                for number, (name, kind) in enumerate(
                    (
                        *kinds.items(),
                        ("row", np.int64),
                        *((f"value {v}", np.float32) for v in values),
                    )
                )
            }
            for table, values in columns.items()
        }
        self.rows = dict.fromkeys(columns, 0)

    def add(self, table: str, rows: Records) -> None:
        """Append the rows of a bucket."""
        for name, file in self._files[table].items():
            file.add(rows[name.removeprefix("value ")])
        self.rows[table] += len(rows)

    def row(self, table: str) -> NDArray[np.int64]:
        """Where each row of a table stood in the log: [E]."""
        return self._files[table]["row"].done()

    def events(self, table: str, ordered: OrderedRows) -> Events:
        """The arrays of a table."""
        files = self._files[table]
        user = files["user"].done()
        return Events(
            user=user,
            item=files["item"].done(),
            time=files["time"].done(),
            values={name: files[f"value {name}"].done() for name in self._columns[table]},
            user_start=row_starts(user, len(ordered.users)),
        )
