"""A raw log as arrays: all events, and the consumed items."""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl

from goalrank.errors import DataError
from goalrank.logs.events.arrays import Codes, Events, time_order
from goalrank.logs.readers.raw_log import CARRIED, RawLog

__all__ = ["CONSUMED", "ConsumptionLog", "consumed_only", "to_arrays"]

CONSUMED = "consumed"  # feedback type of the injected protocol: 1 for consumed items


@dataclass(frozen=True)
class ConsumptionLog:
    """A raw log as arrays.

    Attributes:
        raw: the log.
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


def consumed_only(raw: RawLog, *, injected: bool) -> RawLog:
    """Reduce a log to interactions: the positives of an exposure log, all rows of any other.

    Args:
        raw: the log.
        injected: whether consumption becomes the target (protocol ``injected``).

    Raises:
        DataError: nothing was consumed.
    """
    events = raw.events
    if raw.shape == "exposures":
        events = events.filter(pl.col(raw.target) > 0)
        raw = replace(raw, shape="interactions", prior=None, rate_kinds=())
    if injected:
        events = events.with_columns(pl.lit(1.0, pl.Float32).alias(CONSUMED))
        raw = replace(raw, kinds=(CONSUMED, *raw.kinds), target=CONSUMED)
    if events.height == 0:
        raise DataError(f"{raw.dataset}: no row with {raw.target} > 0; nothing was consumed")
    return replace(raw, events=events)


def to_arrays(raw: RawLog, seed: int = 0) -> ConsumptionLog:
    """Turn a log into arrays: codes by first appearance in time, rows by user and time.

    Args:
        raw: the log.
        seed: of the order of rows that share a time.
    """
    events = time_order(raw.events, seed)
    base = events.select("user_id", "item_id", "time")
    if raw.prior is not None:
        base = pl.concat([raw.prior.select(base.columns), base]).sort("time", maintain_order=True)
    users = Codes.fit(base["user_id"], base["time"])
    items = Codes.fit(base["item_id"], base["time"])
    columns = tuple(dict.fromkeys((*raw.kinds, *raw.rate_kinds, raw.strength, *raw.features)))
    carried = tuple(name for name in CARRIED if name in events.columns)
    table = Events.build(events, users, items, columns, carried)
    if raw.shape == "interactions":
        return ConsumptionLog(raw, users, items, table, table)
    taken = pl.col(raw.strength) > 0
    if "shown" in events.columns:
        taken &= pl.col("shown")
    consumed = events.filter(taken).select(*base.columns, raw.strength)
    if raw.prior is not None:
        earlier = raw.prior.select(*base.columns, pl.col("strength").alias(raw.strength))
        consumed = pl.concat([earlier, consumed]).sort("time", maintain_order=True)
    return ConsumptionLog(
        raw, users, items, table, Events.build(consumed, users, items, (raw.strength,))
    )
