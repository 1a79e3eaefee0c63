"""What was shown and how users answered, durable: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from goalrank.errors import ConfigError, DataError
from goalrank.requests import TableInfo

_METADATA = sa.MetaData()
_EXPOSURES = sa.Table(
    "exposures",
    _METADATA,
    sa.Column("request_id", sa.String, primary_key=True),
    sa.Column("time_us", sa.BigInteger, nullable=False, index=True),
    sa.Column("body", sa.Text, nullable=False),
)
_FEEDBACK = sa.Table(
    "feedback",
    _METADATA,
    sa.Column("request_id", sa.String, primary_key=True),
    sa.Column("slot", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String, primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("time_us", sa.BigInteger, nullable=False),
)
_META = sa.Table(
    "meta",
    _METADATA,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


class StoreError(DataError):
    """The store cannot be opened or written."""


class UnknownRequestError(DataError):
    """Feedback names a request, or an item of it, that was never shown (or is past retention)."""


class DuplicateRequestError(DataError):
    """A request id is in the store already."""


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


@dataclass(frozen=True)
class Event:
    """One answer of a user to one shown item."""

    request_id: str
    item: int | str
    kind: str
    value: float


@dataclass(frozen=True)
class Taken:
    """What became of a batch of events.

    Attributes:
        stored: new ones.
        duplicates: there already with the same value; nothing changes.
        replaced: there already with another value; the latest counts.
    """

    stored: int
    duplicates: int
    replaced: int


class Store:
    """Exposures and feedback.

    A writer thread gathers exposures that wait at the same time and commits them together; `record`
    returns once they are on disk.

    Args:
        url: SQLAlchemy's, e.g. `sqlite:///goalrank.db` or `postgresql+psycopg://…`.
        group: exposures a commit at most.

    Raises:
        StoreError: the database cannot be opened.
    """

    def __init__(self, url: str, *, group: int = 512) -> None:
        try:
            self.engine = sa.create_engine(url)
            if self.engine.dialect.name == "sqlite":
                sa.event.listen(self.engine, "connect", _durable)
            _METADATA.create_all(self.engine)
        except (sa.exc.SQLAlchemyError, ImportError) as error:
            raise StoreError(
                f"store '{_shown(url)}' cannot be opened ({_first_line(error)}); remedy: check the "
                f"address, rights and driver; option: store (GOALRANK_STORE)"
            ) from error
        if self.engine.dialect.name not in ("sqlite", "postgresql"):
            raise ConfigError(
                f"store '{_shown(url)}' is {self.engine.dialect.name}; remedy: sqlite or "
                f"postgresql; option: store (GOALRANK_STORE)"
            )
        self._group = group
        self._waiting: queue.SimpleQueue[tuple[list[dict[str, Any]], Future[None]] | None] = (
            queue.SimpleQueue()
        )
        self._closed = False
        self._writer = threading.Thread(target=self._write_forever, daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Write what waits, then let go of the database."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
            self._writer.join()
            self.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, exposures: Sequence[Exposure], timeout: float | None = 10.0) -> None:
        """Make exposures durable, all or none; returns when they are.

        Raises:
            DuplicateRequestError: a request id is there already.
            StoreError: the database refuses (disk full, gone), or takes longer than `timeout` s.
        """
        if self._closed:
            raise StoreError("the store is closed; remedy: open it again")
        if not exposures:
            return
        done: Future[None] = Future()
        self._waiting.put(([_row(exposure) for exposure in exposures], done))
        try:
            done.result(timeout)
        except TimeoutError as error:
            raise StoreError(
                f"the store did not confirm within {timeout} s; remedy: look at the database's load"
            ) from error

    def _write_forever(self) -> None:
        while True:
            first = self._waiting.get()
            if first is None:
                return
            jobs, last = [first], False
            while sum(len(rows) for rows, _ in jobs) < self._group and not self._waiting.empty():
                job = self._waiting.get()
                if job is None:
                    last = True
                    break
                jobs.append(job)
            self._commit(jobs)
            if last:
                return

    def _commit(self, jobs: list[tuple[list[dict[str, Any]], Future[None]]]) -> None:
        """One transaction for all; where it fails, one each, so that only the faulty are refused."""
        try:
            with self.engine.begin() as connection:
                connection.execute(_EXPOSURES.insert(), [row for rows, _ in jobs for row in rows])
        except Exception as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._commit([job])
            else:
                jobs[0][1].set_exception(_refusal(error, jobs[0][0]))
            return
        for _, done in jobs:
            done.set_result(None)

    def feedback(self, events: Sequence[Event]) -> Taken:
        """Store answers, all or none; the same answer again changes nothing.

        However late an answer comes, it is stored beside its request.

        Raises:
            UnknownRequestError: a request or item that was not shown.
            StoreError: the database refuses.
        """
        try:
            with self.engine.begin() as connection:
                rows = self._slots(connection, events)
                return _upsert(connection, rows, self.engine.dialect.name)
        except sa.exc.SQLAlchemyError as error:
            raise _refusal(error, []) from error

    def _slots(self, connection: sa.Connection, events: Sequence[Event]) -> list[dict[str, Any]]:
        wanted = {event.request_id for event in events}
        found = connection.execute(
            sa.select(_EXPOSURES.c.request_id, _EXPOSURES.c.body).where(
                _EXPOSURES.c.request_id.in_(wanted)
            )
        )
        shown = {}
        for request_id, body in found:
            row = json.loads(body)
            shown[request_id] = [row["candidates"][at] for at in row["shown"]]
        now = _micros(datetime.now(UTC))
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

    def describe(self, info: TableInfo) -> None:
        """Keep the description that exports carry."""
        with self.engine.begin() as connection:
            connection.execute(_META.delete().where(_META.c.name == "info"))
            connection.execute(_META.insert(), {"name": "info", "value": info.model_dump_json()})

    @property
    def info(self) -> TableInfo:
        """What `describe` kept."""
        with self.engine.connect() as connection:
            value = connection.scalar(sa.select(_META.c.value).where(_META.c.name == "info"))
        return TableInfo() if value is None else TableInfo.model_validate_json(value)

    def alive(self) -> bool:
        """Whether the database answers."""
        try:
            with self.engine.connect() as connection:
                connection.execute(sa.select(sa.literal(1)))
        except sa.exc.SQLAlchemyError:
            return False
        return self._writer.is_alive()

    def count(self) -> tuple[int, int]:
        """Exposures and answers in the store."""
        with self.engine.connect() as connection:
            counts = [
                connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
                for table in (_EXPOSURES, _FEEDBACK)
            ]
        return counts[0], counts[1]

    def rows(
        self, start: datetime | None = None, end: datetime | None = None, chunk: int = 10_000
    ) -> Iterator[list[dict[str, Any]]]:
        """Exposures with start ≤ time < end and their feedback, by time; `chunk` at a time.

        Each is the body that was stored with `answers`: {(slot, kind): value}.
        """
        after: tuple[int, str] = (-(2**62) if start is None else _micros(start) - 1, "\U0010ffff")
        key = sa.tuple_(_EXPOSURES.c.time_us, _EXPOSURES.c.request_id)
        while True:
            query = sa.select(_EXPOSURES).where(key > sa.tuple_(*map(sa.literal, after)))
            if end is not None:
                query = query.where(_EXPOSURES.c.time_us < _micros(end))
            query = query.order_by(_EXPOSURES.c.time_us, _EXPOSURES.c.request_id).limit(chunk)
            with self.engine.connect() as connection:
                found = connection.execute(query).all()
                answers = _answers(connection, [row.request_id for row in found])
            if not found:
                return
            yield [
                {**json.loads(row.body), "answers": answers.get(row.request_id, {})}
                for row in found
            ]
            after = (found[-1].time_us, found[-1].request_id)

    def purge(self, before: datetime) -> int:
        """Retention: forget exposures older than `before` and their feedback; how many."""
        old = sa.select(_EXPOSURES.c.request_id).where(_EXPOSURES.c.time_us < _micros(before))
        with self.engine.begin() as connection:
            connection.execute(_FEEDBACK.delete().where(_FEEDBACK.c.request_id.in_(old)))
            gone = connection.execute(
                _EXPOSURES.delete().where(_EXPOSURES.c.time_us < _micros(before))
            )
        return int(gone.rowcount)


def _durable(connection: Any, _: object) -> None:
    """Write-ahead log, and a commit that survives a power cut."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _row(exposure: Exposure) -> dict[str, Any]:
    time = _micros(exposure.time)
    body = {
        "request_id": exposure.request_id, "user_id": exposure.user_id, "time": time,
        "history": exposure.history, "history_feedback": exposure.history_feedback,
        "history_time": [_micros(each) for each in exposure.history_time],
        "candidates": exposure.candidates, "candidate_score": exposure.candidate_score,
        "candidate_features": exposure.candidate_features, "shown": exposure.shown,
        "propensity": exposure.propensity, "policy": exposure.policy,
        "experiment": exposure.experiment,
    }  # fmt: skip
    text = json.dumps(body, allow_nan=False)
    return {"request_id": exposure.request_id, "time_us": time, "body": text}


def _upsert(connection: sa.Connection, rows: list[dict[str, Any]], dialect: str) -> Taken:
    if not rows:
        return Taken(0, 0, 0)
    insert = (sqlite if dialect == "sqlite" else postgresql).insert(_FEEDBACK)
    upsert = insert.on_conflict_do_update(
        index_elements=["request_id", "slot", "kind"],
        set_={"value": insert.excluded.value, "time_us": insert.excluded.time_us},
    )
    there = _answers(connection, list({row["request_id"] for row in rows}))
    old = [there.get(row["request_id"], {}).get((row["slot"], row["kind"])) for row in rows]
    connection.execute(upsert, rows)
    same = sum(was == row["value"] for was, row in zip(old, rows))
    new = sum(was is None for was in old)
    return Taken(stored=new, duplicates=same, replaced=len(rows) - new - same)


def _answers(
    connection: sa.Connection, request_ids: Sequence[str]
) -> dict[str, dict[tuple[int, str], float]]:
    out: dict[str, dict[tuple[int, str], float]] = {}
    for part in _parts(request_ids, 500):  # databases limit the number of parameters
        found = connection.execute(sa.select(_FEEDBACK).where(_FEEDBACK.c.request_id.in_(part)))
        for row in found:
            out.setdefault(row.request_id, {})[row.slot, row.kind] = row.value
    return out


def _parts(values: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (values[i : i + size] for i in range(0, len(values), size))


def _refusal(error: Exception, rows: list[dict[str, Any]]) -> DataError:
    if isinstance(error, sa.exc.IntegrityError):
        ids = [row["request_id"] for row in rows]
        return DuplicateRequestError(
            f"a request id of {ids[:3]} is in the store already; nothing was stored; remedy: give "
            f"each request an id of its own, or none"
        )
    return StoreError(f"the store refuses ({_first_line(error)}); nothing was stored")


def _micros(time: datetime) -> int:
    """Microseconds since 1970, exactly."""
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _shown(url: str) -> str:
    """The address without its password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "?"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
