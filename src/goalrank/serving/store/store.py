"""What was shown and how users answered, durable: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from datetime import datetime
from time import monotonic, sleep
from typing import Any

import sqlalchemy as sa

from goalrank.errors import StoreError
from goalrank.requests import TableInfo
from goalrank.serving.store.database import (
    EXPOSURES,
    FEEDBACK,
    META,
    open_engine,
    passing,
    refusal,
    snapshot,
    writes,
)
from goalrank.serving.store.records import (
    Event,
    Exposure,
    StoredExposure,
    absent,
    answers_to,
    exposure_row,
    in_range,
    insert_into,
    slot_rows,
    upsert,
)
from goalrank.serving.store.writer_connection import Checkpointer, WriterConnection

__all__ = ["CONFIRM_S", "Event", "Exposure", "Store", "StoredExposure", "confirm"]

CONFIRM_S = 10.0  # seconds that a write may take
_Job = tuple[list[dict[str, Any]], "Future[None]"]


def confirm(stored: Future[None]) -> None:
    """Exposures of `Store.submit` are durable, or this raises.

    Raises:
        DuplicateRequestError: a request id is there already.
        StoreFullError: the disk is full.
        StoreError: the database refuses or is gone, or has not answered yet.
    """
    if not stored.done():
        raise StoreError("the store did not confirm in time; remedy: look at the database's load")
    stored.result()


class Store:
    """Exposures and feedback.

    A writer thread gathers exposures that wait at the same time and commits them together; `record`
    returns once they are on disk.

    Args:
        url: SQLAlchemy's, e.g. `sqlite:///goalrank.db` or `postgresql+psycopg://…`.
        group: exposures a commit at most.
        patience: seconds that exposures wait for a database that was lost and may come back (a
            restart). While it stays away, further exposures are refused after one try.

    Raises:
        StoreError: the database cannot be opened.
        ConfigError: neither a SQLite file nor PostgreSQL.
        MissingExtraError: PostgreSQL without its driver.
    """

    def __init__(self, url: str, *, group: int = 512, patience: float = 2.0) -> None:
        self.engine = open_engine(url)
        self._writes, self._reads = writes(self.engine), snapshot(self.engine)
        self._group, self._patience = group, patience
        self._line, self._tidier = WriterConnection(self._writes), Checkpointer(self.engine)
        self._lost = False
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._writer = threading.Thread(target=self._write_forever, daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Write what waits, then let go of the database."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
            self._writer.join()
            self._tidier.close()
            self.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, exposures: Sequence[Exposure], timeout: float | None = CONFIRM_S) -> None:
        """Make exposures durable, all or none; returns when they are.

        Raises:
            DuplicateRequestError: a request id is there already.
            StoreFullError: the disk is full.
            StoreError: the database refuses or is gone, or takes longer than `timeout` s.
        """
        stored = self.submit(exposures)
        wait([stored], timeout)
        confirm(stored)

    def submit(self, exposures: Sequence[Exposure]) -> Future[None]:
        """Begin to make exposures durable; `confirm` the future once it is done.

        Raises:
            StoreError: the store is closed.
        """
        if self._closed:
            raise StoreError("the store is closed; remedy: open it again")
        done: Future[None] = Future()
        if exposures:
            self._waiting.put(([exposure_row(exposure) for exposure in exposures], done))
        else:
            done.set_result(None)
        return done

    def _write_forever(self) -> None:
        try:
            self._write_until_closed()
        finally:
            self._line.drop()

    def _write_until_closed(self) -> None:
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

    def _commit(self, jobs: list[_Job]) -> None:
        """One transaction for all; where rows are refused, one each: only the faulty fail."""
        try:
            self._insert([row for rows, _ in jobs for row in rows])
        except Exception as error:
            faulty = isinstance(error, (sa.exc.IntegrityError, sa.exc.DataError))
            if faulty and len(jobs) > 1:
                for job in jobs:
                    self._commit([job])
                return
            for rows, done in jobs:
                done.set_exception(refusal(error, rows))
            return
        for _, done in jobs:
            done.set_result(None)

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        end = monotonic() + (0.0 if self._lost else self._patience)
        again = False
        while True:
            try:
                with self._line.transaction() as connection:
                    # A commit may have arrived although its answer did not.
                    left = absent(connection, rows) if again else rows
                    if left:
                        self._line.insert(connection, left)
                self._lost = False
                self._tidier.note()
                return
            except sa.exc.SQLAlchemyError as error:
                if not passing(error):
                    raise
                if monotonic() >= end:
                    self._lost = True
                    raise
                again = True
                sleep(0.05)

    def feedback(self, events: Sequence[Event]) -> StoredExposure:
        """Store answers, all or none; the same answer again changes nothing.

        However late an answer comes, it is stored beside its request.

        Raises:
            UnknownRequestError: a request or item that was not shown.
            StoreFullError: the disk is full.
            StoreError: the database refuses or is gone.
        """
        end = monotonic() + (0.0 if self._lost else self._patience)
        while True:
            try:
                with self._writes.begin() as connection:
                    rows = slot_rows(connection, events)
                    return upsert(connection, rows, self.engine.dialect.name)
            except sa.exc.SQLAlchemyError as error:
                if not passing(error) or monotonic() >= end:
                    raise refusal(error, []) from error
                sleep(0.05)  # a second time changes nothing, so trying again is safe

    def describe(self, info: TableInfo) -> None:
        """Keep the description that exports carry."""
        row = {"name": "info", "value": info.model_dump_json()}
        insert = insert_into(META, self.engine.dialect.name)
        update = insert.on_conflict_do_update(
            index_elements=["name"], set_={"value": insert.excluded.value}
        )
        with self._writes.begin() as connection:
            connection.execute(update, row)

    @property
    def info(self) -> TableInfo:
        """What `describe` kept."""
        with self.engine.connect() as connection:
            value = connection.scalar(sa.select(META.c.value).where(META.c.name == "info"))
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
        with self._reads.connect() as connection:
            counts = [
                connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
                for table in (EXPOSURES, FEEDBACK)
            ]
        return counts[0], counts[1]

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that sees the store as it is now, whatever is written meanwhile."""
        with self._reads.connect() as connection:
            yield connection

    def rows(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        chunk: int = 10_000,
        connection: sa.Connection | None = None,
    ) -> Iterator[list[dict[str, Any]]]:
        """Exposures with start ≤ time < end and their feedback, by time; `chunk` at a time.

        Each is the body that was stored with `answers`: {(slot, kind): value}.

        Args:
            connection: of `reading`, where several questions must see the same rows.
        """
        if connection is None:
            with self.reading() as own:
                yield from self.rows(start, end, chunk, own)
            return
        key = sa.tuple_(EXPOSURES.c.time_us, EXPOSURES.c.request_id)
        query = sa.select(EXPOSURES.c.request_id, EXPOSURES.c.time_us, EXPOSURES.c.body)
        query = query.where(*in_range(start, end))
        query = query.order_by(EXPOSURES.c.time_us, EXPOSURES.c.request_id).limit(chunk)
        found = connection.execute(query).all()
        while found:
            answers = answers_to(connection, [row.request_id for row in found])
            yield [
                {**json.loads(row.body), "answers": answers.get(row.request_id, {})}
                for row in found
            ]
            after = (found[-1].time_us, found[-1].request_id)
            found = connection.execute(query.where(key > sa.tuple_(*map(sa.literal, after)))).all()

    def purge(self, before: datetime, *, chunk: int = 1_000) -> int:
        """Retention: forget exposures older than `before` and their feedback; how many.

        Many short transactions, so that a server on the same store goes on meanwhile.

        Raises:
            StoreError: the database refuses; what was forgotten before stays so.
        """
        old = sa.select(EXPOSURES.c.request_id).where(*in_range(None, before)).limit(chunk)
        total = 0
        while True:
            try:
                with self._writes.begin() as connection:
                    gone = connection.execute(
                        EXPOSURES.delete().where(EXPOSURES.c.request_id.in_(old))
                    ).rowcount
            except sa.exc.SQLAlchemyError as error:
                raise refusal(error, []) from error
            total += gone
            if gone < chunk:
                return total
