"""Rows of the event log: what happened between a user and an item, and what is said of one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import polars as pl

from goalrank.errors import ConfigError

__all__ = [
    "NOTHING",
    "TIME_BYTES",
    "LogRow",
    "LoggedColumns",
    "LoggedEvent",
    "LoggedPart",
    "SideTable",
    "id_series",
    "key_of",
]

TIME_BYTES = 8
"""Length of the time with which a digest begins; the content follows."""

NOTHING = "null"
"""Key of no id."""

SideTable = Literal["items", "users"]
"""Whose side table it is."""

_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


class LogRow(Protocol):
    """What the log stores."""

    @property
    def event_id(self) -> str | None:
        """The sender's, if there is one."""

    @property
    def timed(self) -> bool:
        """Whether the sender gave the time.

        Else it is when the event came, and the same `event_id` may come again at another time.
        """

    @property
    def row(self) -> dict[str, Any]:
        """As a row of the table."""


@dataclass(frozen=True)
class LoggedEvent:
    """What happened between a user and an item.

    Attributes:
        user_id: who.
        item_id: what.
        time: microseconds since 1970.
        values: feedback type → value.
        shown: whether the item was shown, in logs of exposures.
        before: whether it was before the log began: `values` is then the strength alone.
        event_id: the sender's, if there is one.
        copy: number among rows of one content, where all of them count.
        timed: see `LogRow`.
    """

    user_id: int | str
    item_id: int | str
    time: int
    values: dict[str, float]
    shown: bool = True
    before: bool = False
    event_id: str | None = None
    copy: int = 0
    timed: bool = True

    @property
    def row(self) -> dict[str, Any]:
        """As a row of the table."""
        said: dict[str, Any] = {"values": self.values}
        said |= {} if self.shown else {"shown": False}
        said |= {"before": True} if self.before else {}
        keys = key_of(self.user_id), key_of(self.item_id)
        return _row(self.event_id, *keys, self.time, said, self.copy)

    @classmethod
    def read(cls, row: Any) -> LoggedEvent:
        """The event of a row of the table."""
        body = json.loads(row.body)
        return cls(
            json.loads(row.user_key), json.loads(row.item_key), row.time_us, body["values"],
            shown=body.get("shown", True), before=body.get("before", False), event_id=row.event_id,
        )  # fmt: skip


@dataclass(frozen=True)
class LoggedColumns:
    """What is said of an item or a user: values of columns of its side table.

    Attributes:
        table: whose.
        id: of the item or user.
        time: microseconds since 1970, since when it holds.
        columns: column → value; the others stay as they are.
        event_id: the sender's, if there is one.
        timed: see `LogRow`.
    """

    table: SideTable
    id: int | str
    time: int
    columns: Mapping[str, Any]
    event_id: str | None = None
    timed: bool = True

    @property
    def row(self) -> dict[str, Any]:
        """As a row of the table."""
        own = key_of(self.id)
        keys = (NOTHING, own) if self.table == "items" else (own, NOTHING)
        return _row(self.event_id, *keys, self.time, {"columns": dict(self.columns)}, 0)


@dataclass(frozen=True)
class LoggedPart:
    """Some rows of the log, one after another.

    Attributes:
        position: number of the last one.
        events: those between users and items, as `State.add` takes them.
        told: what is said of items and users.
    """

    position: int
    events: pl.DataFrame
    told: list[LoggedColumns] = field(default_factory=list)

    def __len__(self) -> int:
        return self.events.height + len(self.told)

    @classmethod
    def read(cls, rows: Sequence[Any]) -> LoggedPart:
        """The part of rows of the table."""
        bodies = [json.loads(row.body) for row in rows]
        pairs = list(zip(rows, bodies, strict=True))
        told = [_told(row, body) for row, body in pairs if "columns" in body]
        if told:
            pairs = [(row, body) for row, body in pairs if "columns" not in body]
        return cls(rows[-1].seq, _frame(pairs), told)


def key_of(value: int | str) -> str:
    """An id as JSON."""
    return _json(value) if isinstance(value, str) else str(value)


def id_series(ids: Sequence[Any]) -> pl.Series:
    """Ids of the log, which are all texts or all numbers.

    Args:
        ids: of users, or of items.

    Raises:
        ConfigError: some are texts and some are numbers.
    """
    try:
        return pl.Series(ids)
    except TypeError:
        raise ConfigError(
            "the store's events name some ids as texts and others as numbers, so that they are of two "
            "models' data; remedy: a store of its own for each; option: store"
        ) from None


def _row(
    event_id: str | None, user: str, item: str, time: int, said: Mapping[str, Any], copy: int
) -> dict[str, Any]:
    body = _json(said)
    content = _json([user, item, body, copy]).encode()
    begin = time.to_bytes(TIME_BYTES, "big", signed=True)
    return {
        "event_id": event_id, "user_key": user, "item_key": item,
        "digest": begin + hashlib.sha256(content).digest()[:16], "time_us": time, "body": body,
    }  # fmt: skip


def _told(row: Any, body: dict[str, Any]) -> LoggedColumns:
    table: SideTable = "items" if row.user_key == NOTHING else "users"
    own = json.loads(row.item_key if table == "items" else row.user_key)
    return LoggedColumns(table, own, row.time_us, body["columns"], row.event_id)


def _frame(pairs: Sequence[tuple[Any, dict[str, Any]]]) -> pl.DataFrame:
    kinds = sorted({kind for _, body in pairs for kind in body["values"]})
    values = {
        kind: pl.Series([body["values"].get(kind) for _, body in pairs], dtype=pl.Float32)
        for kind in kinds
    }
    return pl.DataFrame(
        {
            "user_id": id_series([json.loads(row.user_key) for row, _ in pairs]),
            "item_id": id_series([json.loads(row.item_key) for row, _ in pairs]),
            "time": pl.Series([row.time_us for row, _ in pairs], dtype=pl.Int64),
            "shown": [body.get("shown", True) for _, body in pairs],
            "before": [body.get("before", False) for _, body in pairs],
            **values,
        }
    )
