"""Rows of the store: exposures and feedback, and how they are written and looked up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from pydantic_core import PydanticSerializationError, to_json

from goalrank.errors import UnknownRequestError
from goalrank.requests import SCHEMA
from goalrank.serving.store.database import EXPOSURES, FEEDBACK
from goalrank.serving.store.layouts import EARLIER
from goalrank.serving.store.upserts import upsert

_EPOCH, _MICRO = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_IDS_PER_QUERY = 500  # databases limit the number of parameters


@dataclass(frozen=True)
class Exposure:
    """A request and the list that was shown for it: one row of the requests table.

    Attributes:
        request_id: unique in the store.
        user_id: the user.
        time: of the request, with a time zone.
        candidates: N item ids.
        shown: positions in `candidates`, in the order shown.
        history: item ids, oldest first.
        history_feedback: one value per item of the history.
        history_time: one time per item of the history.
        candidate_score: the retriever's N scores; None if there are none.
        candidate_features: N vectors of F numbers; empty if there are none.
        propensity: probability in [0, 1] of this list under the policy that served it; None if
            unknown.
        slot_propensity: probability of each shown item given those before it; None if unknown.
        policy: name of that policy.
        experiment: labels of the experiments that the user takes part in.
        layout: name of the `Layout` of the model that served it.
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
    slot_propensity: list[float] | None = None
    policy: str | None = None
    experiment: str | None = None
    layout: str = EARLIER


KEPT = tuple(column for column in SCHEMA if column.name in Exposure.__dataclass_fields__)
"""Columns of the requests table that the store keeps of an exposure; feedback has its own rows."""


@dataclass(frozen=True)
class Event:
    """Feedback of one type from a user to one shown item.

    Attributes:
        request_id: of the exposure.
        item: id of a shown item.
        kind: feedback type, e.g. "click".
        value: of the feedback.
    """

    request_id: str
    item: int | str
    kind: str
    value: float


@dataclass(frozen=True)
class FeedbackCounts:
    """What the store did with a batch of events.

    Attributes:
        stored: new events.
        duplicates: events that were stored before with the same value; nothing changed.
        replaced: events that were stored before with another value; the new value was kept.
    """

    stored: int
    duplicates: int
    replaced: int

    def __add__(self, more: FeedbackCounts) -> FeedbackCounts:
        """Add up two counts."""
        return FeedbackCounts(
            self.stored + more.stored,
            self.duplicates + more.duplicates,
            self.replaced + more.replaced,
        )


def in_range(start: datetime | None, end: datetime | None) -> list[sa.ColumnElement[bool]]:
    """Make the SQL conditions start ≤ time < end on exposures.

    Args:
        start: None sets no start.
        end: None sets no end.
    """
    found = [] if start is None else [EXPOSURES.c.time_us >= micros(start)]
    return found if end is None else [*found, EXPOSURES.c.time_us < micros(end)]


def exposure_row(exposure: Exposure) -> dict[str, Any]:
    """Make the database row of an exposure; times are microseconds since 1970.

    Args:
        exposure: the exposure.
    """
    body = {column.name: _plain(getattr(exposure, column.name)) for column in KEPT}
    body["layout"] = exposure.layout
    return {
        "request_id": exposure.request_id, "time_us": body["time"],
        "scored": exposure.candidate_score is not None,
        "body": _json(body),
    }  # fmt: skip


def _json(body: dict[str, Any]) -> str:
    """Write a body as JSON; several times as fast as `json.dumps`.

    Raises:
        ValueError: a number that is not finite.
    """
    try:
        text = to_json(body, inf_nan_mode="constants")
    except PydanticSerializationError:  # half of a surrogate pair, which UTF-8 has no bytes for
        return json.dumps(body, allow_nan=False)
    if b"NaN" in text or b"Infinity" in text:  # a number, or part of a name
        return json.dumps(body, allow_nan=False)
    return text.decode()


def _plain(value: Any) -> Any:
    """Cell as JSON: times, also those in a list, are microseconds since 1970."""
    if isinstance(value, datetime):
        return micros(value)
    if isinstance(value, list) and value and isinstance(value[0], datetime):
        return [micros(each) for each in value]
    return value


def not_stored(connection: sa.Connection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the exposure rows that are not in the store with exactly the same content.

    A row whose id is in the store with other content is returned too, and its insert then fails.

    Args:
        connection: inside a transaction.
        rows: of `exposure_row`.
    """
    stored: dict[str, str] = {}
    for part in chunks([row["request_id"] for row in rows], _IDS_PER_QUERY):
        query = sa.select(EXPOSURES.c.request_id, EXPOSURES.c.body)
        for request_id, body in connection.execute(query.where(EXPOSURES.c.request_id.in_(part))):
            stored[request_id] = body
    return [row for row in rows if stored.get(row["request_id"]) != row["body"]]


def feedback_rows(
    connection: sa.Connection, events: Sequence[Event]
) -> tuple[list[dict[str, Any]], FeedbackCounts]:
    """Make the database rows of feedback.

    The exposures are locked until the transaction ends, in the same order by all writers.

    Args:
        connection: inside a transaction.
        events: the feedback; a later event replaces an earlier one of the same item and type.

    Returns:
        The rows; and how many events repeat or replace an earlier one of the same call.

    Raises:
        UnknownRequestError: a request or item that was not shown.
    """
    wanted = sorted({event.request_id for event in events})
    shown = {}
    for part in chunks(wanted, _IDS_PER_QUERY):
        query = sa.select(EXPOSURES.c.request_id, EXPOSURES.c.body)
        query = query.where(EXPOSURES.c.request_id.in_(part)).order_by(EXPOSURES.c.request_id)
        for request_id, body in connection.execute(query.with_for_update()):
            row = json.loads(body)
            shown[request_id] = [row["candidates"][at] for at in row["shown"]]
    now = micros(datetime.now(UTC))
    rows: dict[tuple[str, int, str], dict[str, Any]] = {}
    repeated = replaced = 0
    for event in events:
        if event.item not in shown.get(event.request_id, ()):
            what = "item" if event.request_id in shown else "request"
            raise UnknownRequestError(
                f"feedback names {what} {(event.item if what == 'item' else event.request_id)!r}"
                f" (request {event.request_id!r}), which was not shown or is past retention; "
                f"nothing was stored; remedy: send the request_id and items of the answer"
            )
        slot = shown[event.request_id].index(event.item)
        key = event.request_id, slot, event.kind
        if key in rows:
            same = rows[key]["value"] == float(event.value)
            repeated, replaced = repeated + same, replaced + (not same)
        rows[key] = {
            "request_id": event.request_id, "slot": slot, "kind": event.kind,
            "value": float(event.value), "time_us": now,
        }  # fmt: skip
    return list(rows.values()), FeedbackCounts(0, repeated, replaced)


def write_feedback(
    connection: sa.Connection, rows: list[dict[str, Any]], dialect: str
) -> FeedbackCounts:
    """Write rows of feedback; a new value replaces an old one.

    Args:
        connection: inside a transaction.
        rows: of `feedback_rows`.
        dialect: "sqlite" or "postgresql".

    Returns:
        How many rows were new, the same as before, or replaced.
    """
    if not rows:
        return FeedbackCounts(0, 0, 0)
    insert = upsert(FEEDBACK, dialect)
    statement = insert.on_conflict_do_update(
        index_elements=["request_id", "slot", "kind"],
        set_={"value": insert.excluded.value, "time_us": insert.excluded.time_us},
    )
    stored = stored_feedback(connection, list({row["request_id"] for row in rows}))
    old = [stored.get(row["request_id"], {}).get((row["slot"], row["kind"])) for row in rows]
    connection.execute(statement, rows)
    same = sum(was == row["value"] for was, row in zip(old, rows))
    new = sum(was is None for was in old)
    return FeedbackCounts(stored=new, duplicates=same, replaced=len(rows) - new - same)


def stored_feedback(
    connection: sa.Connection, request_ids: Sequence[str]
) -> dict[str, dict[tuple[int, str], float]]:
    """Read the feedback to some requests.

    Args:
        connection: the connection.
        request_ids: the requests.

    Returns:
        Request id → (slot, feedback type) → value, for the requests that have feedback.
    """
    out: dict[str, dict[tuple[int, str], float]] = {}
    for part in chunks(request_ids, _IDS_PER_QUERY):
        found = connection.execute(sa.select(FEEDBACK).where(FEEDBACK.c.request_id.in_(part)))
        for row in found:
            out.setdefault(row.request_id, {})[row.slot, row.kind] = row.value
    return out


def chunks(values: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    """Cut values into pieces.

    Args:
        values: the values.
        size: values per piece, at most.
    """
    return (values[i : i + size] for i in range(0, len(values), size))


def micros(time: datetime) -> int:
    """Microseconds since 1970, exactly.

    Args:
        time: with a time zone.
    """
    return (time - _EPOCH) // _MICRO
