"""`EventLog`: events in the order in which they came, in the database of the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from goalrank.errors import DuplicateRequestError, StoreError
from goalrank.serving.state.forgetting import forget_exposures
from goalrank.serving.state.ids import hash_of
from goalrank.serving.state.logged import (
    NOTHING,
    TIME_BYTES,
    LoggedColumns,
    LoggedEvent,
    LoggedPart,
    LogRow,
    key_of,
)
from goalrank.serving.store.database import META, first_line, for_reading, for_writing, store_error
from goalrank.serving.store.store_file import StoreFile
from goalrank.serving.store.upserts import upsert

__all__ = ["Appended", "Deleted", "EventLog", "Forgotten"]

_METADATA = sa.MetaData()
_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers rows of INTEGER alone
EVENTS = sa.Table(
    "events",
    _METADATA,
    sa.Column("seq", _BIG, primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.String, unique=True),  # the sender's, if there is one
    # Of when, who, what and values. It begins with the time, so that events of one time lie
    # together in the index: random ones would write a page of it each.
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("user_key", sa.String, nullable=False),  # the id as JSON: 1 and "1" are two
    sa.Column("item_key", sa.String, nullable=False),  # "null": the event is of one of them alone
    sa.Column("time_us", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("events_by_user", "user_key"),
    sqlite_autoincrement=True,  # a number is never given twice
)
FORGOTTEN = sa.Table(
    "forgotten_users",
    _METADATA,
    sa.Column("seq", _BIG, primary_key=True, autoincrement=True),
    sa.Column("user_hash", sa.String, nullable=False),  # tells other processes whom, and no more
    sa.Column("position", sa.BigInteger, nullable=False),  # the newest event then
    sqlite_autoincrement=True,
)
_LOCK = 0x60A12A4C  # writers of PostgreSQL take turns, so that numbers appear in their order
_IDENTITY = "event log"  # name in the table of what is known about the store
_PART = 400  # ids per query
_CHUNK = 50_000  # events that are read at once


@dataclass(frozen=True)
class Appended:
    """What the log did with a batch.

    Attributes:
        stored: new events.
        duplicates: events that were there with the same content; nothing changed.
        last: number of the newest event of the log.
    """

    stored: int
    duplicates: int
    last: int


@dataclass(frozen=True)
class Deleted:
    """What was deleted about a user.

    Attributes:
        events: rows of the log.
        exposures: rows of the store, with their feedback.
    """

    events: int
    exposures: int


@dataclass(frozen=True)
class Forgotten:
    """A user who was forgotten.

    Attributes:
        seq: number of the deletion.
        user_hash: `ids.hash_of` of the id, which itself is not kept.
        position: number of the newest event at that moment; the user may have later ones.
    """

    seq: int
    user_hash: int
    position: int


class EventLog:
    """A log that many processes may append to and read.

    Args:
        engine: of `open_engine`; the table is made if it is missing.

    Attributes:
        identity: drawn when the log was made; no other log has it.

    Raises:
        StoreError: the database refuses.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._writes, self._reads = for_writing(engine), for_reading(engine)
        self._dialect, self._file = engine.dialect.name, StoreFile(engine)
        with self._writing() as connection:
            _METADATA.create_all(connection)
            self.identity = _identity(connection)

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction that takes its turn; what it commits is in the file of the address."""
        number = self._file.look()
        try:
            with self._writes.begin() as connection:
                self._take_turn(connection)
                yield connection
        except sa.exc.SQLAlchemyError as error:
            raise store_error(error, []) from error
        self._file.check(number)

    def _take_turn(self, connection: sa.Connection) -> None:
        if self._dialect == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))

    def append(self, events: Sequence[LogRow]) -> Appended:
        """Store events, all or none; they are on disk when this returns.

        An event whose id, or whose whole content, is in the log already is not stored again.

        Args:
            events: in the order in which they came.

        Raises:
            DuplicateRequestError: an id that is there with another content.
            StoreFullError: the disk is full.
            StoreError: the database refuses, or its file was removed or replaced.
        """
        rows = _distinct([event.row for event in events])
        untimed = {event.event_id for event in events if not event.timed}
        with self._writing() as connection:
            stored = _insert(connection, rows, untimed)
            last = _last(connection)
        return Appended(stored, len(events) - stored, last)

    @property
    def last(self) -> int:
        """Number of the newest event, also of one that was deleted; 0 in an empty log."""
        with self._reading() as connection:
            return _last(connection)

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        try:
            with self._reads.connect() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(
                f"the event log cannot be read ({first_line(error)}); option: store"
            ) from error

    def after(
        self, position: int, chunk: int = _CHUNK, *, until: int | None = None
    ) -> Iterator[LoggedPart]:
        """Events after a position, in their order, in parts.

        Args:
            position: number of the last event that is known; 0 for none.
            chunk: events per frame.
            until: number of the last event that is given; None gives all.
        """
        query = sa.select(EVENTS)
        if until is not None:
            query = query.where(EVENTS.c.seq <= until)
        return self._parts(query, position, chunk)

    def _parts(self, query: sa.Select[Any], position: int, chunk: int) -> Iterator[LoggedPart]:
        """Rows of a query after a position, in their order, in parts."""
        query = query.order_by(EVENTS.c.seq).limit(chunk)
        while True:
            with self._reading() as connection:
                rows = connection.execute(query.where(EVENTS.c.seq > position)).all()
            if not rows:
                return
            position = rows[-1].seq
            yield LoggedPart.read(rows)

    def told(self, chunk: int = _CHUNK) -> Iterator[list[LoggedColumns]]:
        """What is said of items and users, in the order in which it came, in parts.

        Args:
            chunk: rows per part.
        """
        one = sa.or_(EVENTS.c.user_key == NOTHING, EVENTS.c.item_key == NOTHING)
        for part in self._parts(sa.select(EVENTS).where(one), 0, chunk):
            yield part.told

    def latest(self, user_id: int | str, most: int) -> list[LoggedEvent]:
        """A user's latest events with items by their own time, newest first.

        Args:
            user_id: id.
            most: events, at most.
        """
        mine = sa.select(EVENTS).where(
            EVENTS.c.user_key == key_of(user_id), EVENTS.c.item_key != NOTHING
        )
        newest = mine.order_by(EVENTS.c.time_us.desc(), EVENTS.c.seq.desc()).limit(most)
        with self._reading() as connection:
            rows = connection.execute(newest).all()
        return [LoggedEvent.read(row) for row in rows]

    def forget(self, user_id: int | str) -> Deleted:
        """Delete a user's events and exposures, all or none, and tell other processes of it.

        Args:
            user_id: id.

        Raises:
            StoreFullError: the disk is full.
            StoreError: the database refuses, or its file was removed or replaced.
        """
        mine = EVENTS.c.user_key == key_of(user_id)
        with self._writing() as connection:
            told = {"user_hash": str(hash_of(user_id)), "position": _last(connection)}
            connection.execute(sa.insert(FORGOTTEN), [told])
            events = connection.execute(sa.delete(EVENTS).where(mine)).rowcount
            return Deleted(events, forget_exposures(connection, user_id))

    def forgotten(self, *, since: int = 0, position: int = 0) -> list[Forgotten]:
        """Users who were forgotten, in order.

        Args:
            since: number of the last deletion that is known.
            position: leave out those whose `position` is lower.
        """
        query = sa.select(FORGOTTEN).order_by(FORGOTTEN.c.seq)
        wanted = (FORGOTTEN.c.seq > since) & (FORGOTTEN.c.position >= position)
        with self._reading() as connection:
            rows = connection.execute(query.where(wanted)).all()
        return [Forgotten(row.seq, int(row.user_hash), row.position) for row in rows]


def _identity(connection: sa.Connection) -> str:
    drawn = {"name": _IDENTITY, "value": uuid4().hex}
    connection.execute(upsert(META, connection.dialect.name).on_conflict_do_nothing(), [drawn])
    found: str = connection.execute(sa.select(META.c.value).filter_by(name=_IDENTITY)).scalar_one()
    return found


def _last(connection: sa.Connection) -> int:
    """Number of the newest event; SQLite and PostgreSQL give no number twice."""
    newest = (sa.func.max(EVENTS.c.seq), sa.func.max(FORGOTTEN.c.position))
    found = (connection.execute(sa.select(each)).scalar() for each in newest)
    return max(each or 0 for each in found)


def _distinct(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without those that repeat an earlier one of the batch.

    Raises:
        DuplicateRequestError: one id with two contents.
    """
    _refuse_others({row["event_id"]: row["digest"] for row in rows}, rows, set())
    by_digest: dict[bytes, dict[str, Any]] = {}
    for row in rows:
        by_digest.setdefault(row["digest"], row)
    return list(by_digest.values())


def _insert(connection: sa.Connection, rows: list[dict[str, Any]], untimed: Set[str | None]) -> int:
    """Insert the rows that the log does not have; their number.

    Args:
        connection: inside a transaction that writes.
        rows: of a batch.
        untimed: ids of events whose sender gave no time.

    Raises:
        DuplicateRequestError: an id that is there with another content.
    """
    if not rows:
        return 0
    insert = upsert(EVENTS, connection.dialect.name).on_conflict_do_nothing()
    count = connection.execute(insert.execution_options(preserve_rowcount=True), rows).rowcount
    if count < len(rows):
        _check_ids(connection, [row for row in rows if row["event_id"] is not None], untimed)
    return count


def _check_ids(
    connection: sa.Connection, rows: list[dict[str, Any]], untimed: Set[str | None]
) -> None:
    for start in range(0, len(rows), _PART):
        part = rows[start : start + _PART]
        named = EVENTS.c.event_id.in_([row["event_id"] for row in part])
        found = connection.execute(sa.select(EVENTS.c.event_id, EVENTS.c.digest).where(named))
        _refuse_others({row.event_id: row.digest for row in found}, part, untimed)


def _refuse_others(
    known: dict[str | None, bytes], rows: list[dict[str, Any]], untimed: Set[str | None]
) -> None:
    """Refuse rows whose id has another content.

    Args:
        known: id → content.
        rows: of a batch.
        untimed: ids whose time is none of the content.
    """
    for row in rows:
        name, digest = row["event_id"], row["digest"]
        begin = TIME_BYTES if name in untimed else 0
        if name is not None and known.get(name, digest)[begin:] != digest[begin:]:
            raise DuplicateRequestError(
                f"event '{name}' came before with another content; nothing was stored; remedy: "
                f"give each event its own event_id, or none"
            )
