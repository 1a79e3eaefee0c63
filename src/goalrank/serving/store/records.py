"""Rows of the store: what is kept of an exposure and of an answer, and how it is looked up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from goalrank.errors import UnknownRequestError
from goalrank.requests import SCHEMA
from goalrank.serving.store.database import EXPOSURES, FEEDBACK

_EPOCH, _MICRO = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


@dataclass(frozen=True)
class Exposure:
    """A row of the requests table as it was served.

    Attributes:
        shown: positions in `candidates`, in the order shown.
        candidate_features: N vectors of F, empty if there are none.
        propensity: probability of this list under the policy that served it; None if unknown.
    """

    request_id: str
    user_id: int | str
    time: datetime
    candidates: list[Any]
    shown: list[int]
    history: list[Any] = field(default_factory=list)
    history_feedback: list[float] = field(default_factory=list)
    history_time: list[datetime] = field(default_factory=list)
    candidate_score: list[float] | None = None
    candidate_features: list[list[float]] = field(default_factory=list)
    propensity: float | None = None
    policy: str | None = None
    experiment: str | None = None


KEPT = tuple(column for column in SCHEMA if column.name in Exposure.__dataclass_fields__)
"""Columns of the requests table that the store keeps of an exposure; feedback has its own rows."""


@dataclass(frozen=True)
class Event:
    """One answer of a user to one shown item."""

    request_id: str
    item: int | str
    kind: str
    value: float


@dataclass(frozen=True)
class StoredExposure:
    """What became of a batch of events.

    Attributes:
        stored: new ones.
        duplicates: there already with the same value; nothing changes.
        replaced: there already with another value; the latest counts.
    """

    stored: int
    duplicates: int
    replaced: int


def in_range(start: datetime | None, end: datetime | None) -> list[sa.ColumnElement[bool]]:
    """Conditions on exposures: start ≤ time < end."""
    found = [] if start is None else [EXPOSURES.c.time_us >= micros(start)]
    return found if end is None else [*found, EXPOSURES.c.time_us < micros(end)]


def exposure_row(exposure: Exposure) -> dict[str, Any]:
    """The row of an exposure; times are microseconds since 1970."""
    body = {column.name: _plain(getattr(exposure, column.name)) for column in KEPT}
    return {
        "request_id": exposure.request_id, "time_us": body["time"],
        "scored": exposure.candidate_score is not None,
        "body": json.dumps(body, allow_nan=False),
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """A cell as JSON: times, also those in a list, are microseconds since 1970."""
    if isinstance(value, datetime):
        return micros(value)
    if isinstance(value, list) and value and isinstance(value[0], datetime):
        return [micros(each) for each in value]
    return value


def absent(connection: sa.Connection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that are not there yet, letter for letter; another row under an id is still refused."""
    there: dict[str, str] = {}
    for part in parts([row["request_id"] for row in rows], 500):
        query = sa.select(EXPOSURES.c.request_id, EXPOSURES.c.body)
        for request_id, body in connection.execute(query.where(EXPOSURES.c.request_id.in_(part))):
            there[request_id] = body
    return [row for row in rows if there.get(row["request_id"]) != row["body"]]


def slot_rows(connection: sa.Connection, events: Sequence[Event]) -> list[dict[str, Any]]:
    """Rows of feedback; the exposures are locked, in one order for all writers, until the end.

    Raises:
        UnknownRequestError: a request or item that was not shown.
    """
    wanted = sorted({event.request_id for event in events})
    shown = {}
    for part in parts(wanted, 500):
        query = sa.select(EXPOSURES.c.request_id, EXPOSURES.c.body)
        query = query.where(EXPOSURES.c.request_id.in_(part)).order_by(EXPOSURES.c.request_id)
        for request_id, body in connection.execute(query.with_for_update()):
            row = json.loads(body)
            shown[request_id] = [row["candidates"][at] for at in row["shown"]]
    now = micros(datetime.now(UTC))
    rows = {}
    for event in events:
        if event.item not in shown.get(event.request_id, ()):
            what = "item" if event.request_id in shown else "request"
            raise UnknownRequestError(
                f"feedback names {what} {(event.item if what == 'item' else event.request_id)!r}"
                f" (request {event.request_id!r}), which was not shown or is past retention; "
                f"nothing was stored; remedy: send the request_id and items of the answer"
            )
        slot = shown[event.request_id].index(event.item)
        rows[event.request_id, slot, event.kind] = {
            "request_id": event.request_id, "slot": slot, "kind": event.kind,
            "value": float(event.value), "time_us": now,
        }  # fmt: skip
    return list(rows.values())


def insert_into(table: sa.Table, dialect: str) -> Any:
    """An insert that can say what happens where the row is there already."""
    return (sqlite if dialect == "sqlite" else postgresql).insert(table)


def upsert(connection: sa.Connection, rows: list[dict[str, Any]], dialect: str) -> StoredExposure:
    """Write rows of feedback; the latest value counts."""
    if not rows:
        return StoredExposure(0, 0, 0)
    insert = insert_into(FEEDBACK, dialect)
    statement = insert.on_conflict_do_update(
        index_elements=["request_id", "slot", "kind"],
        set_={"value": insert.excluded.value, "time_us": insert.excluded.time_us},
    )
    there = answers_to(connection, list({row["request_id"] for row in rows}))
    old = [there.get(row["request_id"], {}).get((row["slot"], row["kind"])) for row in rows]
    connection.execute(statement, rows)
    same = sum(was == row["value"] for was, row in zip(old, rows))
    new = sum(was is None for was in old)
    return StoredExposure(stored=new, duplicates=same, replaced=len(rows) - new - same)


def answers_to(
    connection: sa.Connection, request_ids: Sequence[str]
) -> dict[str, dict[tuple[int, str], float]]:
    """Request → (slot, kind) → value, of those requests that have answers."""
    out: dict[str, dict[tuple[int, str], float]] = {}
    for part in parts(request_ids, 500):  # databases limit the number of parameters
        found = connection.execute(sa.select(FEEDBACK).where(FEEDBACK.c.request_id.in_(part)))
        for row in found:
            out.setdefault(row.request_id, {})[row.slot, row.kind] = row.value
    return out


def parts(values: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    """Values cut into pieces of at most `size`."""
    return (values[i : i + size] for i in range(0, len(values), size))


def micros(time: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (time - _EPOCH) // _MICRO
