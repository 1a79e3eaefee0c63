"""`Store`: exposures and feedback in SQLite (the default) or PostgreSQL."""

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
    for_reading,
    for_writing,
    is_transient,
    open_engine,
    store_error,
)
from goalrank.serving.store.layouts import describe, stored_info
from goalrank.serving.store.records import (
    Event,
    Exposure,
    FeedbackCounts,
    exposure_row,
    feedback_rows,
    in_range,
    not_stored,
    stored_feedback,
    write_feedback,
)
from goalrank.serving.store.writer_connection import Checkpointer, WriterConnection

__all__ = ["CONFIRM_S", "Event", "Exposure", "FeedbackCounts", "Store", "confirm"]

CONFIRM_S = 10.0  # seconds that a write may take
_Job = tuple[list[dict[str, Any]], "Future[None]"]


def confirm(stored: Future[None]) -> None:
    """Check that the exposures of `Store.submit` are on disk.

    Args:
        stored: future of `Store.submit`.

    Raises:
        DuplicateRequestError: a request id is in the store already.
        StoreFullError: the disk is full.
        StoreError: the database refuses, cannot be reached, or has not answered yet.
    """
    if not stored.done():
        raise StoreError("the store did not confirm in time; remedy: look at the database's load")
    stored.result()


class Store:
    """Database in which a server keeps exposures and feedback.

    A writer thread commits the exposures that wait at the same time together; `record` returns
    when they are on disk.

    Args:
        url: SQLAlchemy's address, e.g. `sqlite:///goalrank.db` or `postgresql+psycopg://…`.
        commit_size: exposures per commit, at most.
        retry_seconds: how long exposures wait for a database that cannot be reached any more (a
            restart). While it stays away, further exposures are refused after one try.

    Raises:
        StoreError: the database cannot be opened.
        ConfigError: neither a SQLite file nor PostgreSQL.
        MissingExtraError: PostgreSQL without its driver.
    """

    def __init__(self, url: str, *, commit_size: int = 512, retry_seconds: float = 2.0) -> None:
        self.engine = open_engine(url)
        self._writes, self._reads = for_writing(self.engine), for_reading(self.engine)
        self._commit_size, self._retry_seconds = commit_size, retry_seconds
        self._writer_connection = WriterConnection(self._writes)
        self._checkpointer = Checkpointer(self.engine)
        self._unreachable = False
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._writer = threading.Thread(target=self._write_forever, daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Write the waiting exposures, then close the connections to the database."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
            self._writer.join()
            self._checkpointer.close()
            self.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, exposures: Sequence[Exposure], timeout: float | None = CONFIRM_S) -> None:
        """Store exposures, all or none, and wait until they are on disk.

        Args:
            exposures: the exposures.
            timeout: seconds to wait, at most; None waits as long as it takes.

        Raises:
            DuplicateRequestError: a request id is in the store already.
            StoreFullError: the disk is full.
            StoreError: the database refuses, cannot be reached, or takes longer than `timeout`.
        """
        stored = self.submit(exposures)
        wait([stored], timeout)
        confirm(stored)

    def submit(self, exposures: Sequence[Exposure]) -> Future[None]:
        """Hand exposures to the writer thread, which stores all or none of them.

        Args:
            exposures: the exposures.

        Returns:
            A future that is done when they are on disk or refused; see `confirm`.

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
            self._writer_connection.close()

    def _write_until_closed(self) -> None:
        while True:
            first = self._waiting.get()
            if first is None:
                return
            jobs, last = [first], False
            while self._has_room(jobs) and not self._waiting.empty():
                job = self._waiting.get()
                if job is None:
                    last = True
                    break
                jobs.append(job)
            self._commit(jobs)
            if last:
                return

    def _has_room(self, jobs: list[_Job]) -> bool:
        return sum(len(rows) for rows, _ in jobs) < self._commit_size

    def _commit(self, jobs: list[_Job]) -> None:
        """Insert all jobs in one transaction; if it is refused, each in its own."""
        try:
            self._insert([row for rows, _ in jobs for row in rows])
        except Exception as error:
            faulty = isinstance(error, (sa.exc.IntegrityError, sa.exc.DataError))
            if faulty and len(jobs) > 1:
                for job in jobs:
                    self._commit([job])
                return
            for rows, done in jobs:
                done.set_exception(store_error(error, rows))
            return
        for _, done in jobs:
            done.set_result(None)

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        end = monotonic() + (0.0 if self._unreachable else self._retry_seconds)
        retrying = False
        while True:
            try:
                with self._writer_connection.transaction() as connection:
                    # An earlier try may have been committed although its answer was lost.
                    missing = not_stored(connection, rows) if retrying else rows
                    if missing:
                        self._writer_connection.insert(connection, missing)
                self._unreachable = False
                self._checkpointer.mark_written()
                return
            except sa.exc.SQLAlchemyError as error:
                if not is_transient(error):
                    raise
                if monotonic() >= end:
                    self._unreachable = True
                    raise
                retrying = True
                sleep(0.05)

    def feedback(self, events: Sequence[Event]) -> FeedbackCounts:
        """Store feedback, all or none; repeating an event changes nothing.

        Feedback is stored with its exposure however late it comes.

        Args:
            events: the feedback.

        Returns:
            How many events were new, repeated or replaced another value.

        Raises:
            UnknownRequestError: a request or item that was not shown.
            StoreFullError: the disk is full.
            StoreError: the database refuses or is gone.
        """
        end = monotonic() + (0.0 if self._unreachable else self._retry_seconds)
        while True:
            try:
                with self._writes.begin() as connection:
                    rows = feedback_rows(connection, events)
                    return write_feedback(connection, rows, self.engine.dialect.name)
            except sa.exc.SQLAlchemyError as error:
                if not is_transient(error) or monotonic() >= end:
                    raise store_error(error, []) from error
                sleep(0.05)  # writing the same feedback twice changes nothing

    def describe(self, info: TableInfo) -> TableInfo:
        """Add a model to the description that exported tables get.

        Args:
            info: of the table that the model was trained on.

        Returns:
            The description of all models so far: their feedback kinds with the ranges that hold
            all of them, and their candidate features.

        Raises:
            StoreError: the database refuses.
        """
        try:
            with self._writes.begin() as connection:
                return describe(connection, info)
        except sa.exc.SQLAlchemyError as error:
            raise store_error(error, []) from error

    @property
    def info(self) -> TableInfo:
        """The description that `describe` stored; an empty one before that."""
        with self.engine.connect() as connection:
            return stored_info(connection) or TableInfo()

    def alive(self) -> bool:
        """Whether the database answers and the writer thread runs."""
        try:
            with self.engine.connect() as connection:
                connection.execute(sa.select(sa.literal(1)))
        except sa.exc.SQLAlchemyError:
            return False
        return self._writer.is_alive()

    def count(self) -> tuple[int, int]:
        """Count the exposures and the feedback in the store."""
        with self._reads.connect() as connection:
            counts = [
                connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
                for table in (EXPOSURES, FEEDBACK)
            ]
        return counts[0], counts[1]

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a connection that sees the store as it is now, whatever is written meanwhile.

        Yields:
            The connection.
        """
        with self._reads.connect() as connection:
            yield connection

    def rows(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        chunk: int = 10_000,
        connection: sa.Connection | None = None,
    ) -> Iterator[list[dict[str, Any]]]:
        """Read exposures with start ≤ time < end and their feedback, in order of time.

        Args:
            start: earliest time; None from the first.
            end: time before which exposures are read; None up to the last.
            chunk: exposures per part, at most.
            connection: of `reading`, if several reads must see the same rows; None opens one.

        Yields:
            Parts of at most `chunk` exposures. Each has the columns of `Exposure`, with times in
            microseconds since 1970, and `slot_feedback`: {(slot, feedback type): value}.
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
            feedback = stored_feedback(connection, [row.request_id for row in found])
            yield [
                {**json.loads(row.body), "slot_feedback": feedback.get(row.request_id, {})}
                for row in found
            ]
            after = (found[-1].time_us, found[-1].request_id)
            found = connection.execute(query.where(key > sa.tuple_(*map(sa.literal, after)))).all()

    def purge(self, before: datetime, *, chunk: int = 1_000) -> int:
        """Delete exposures older than a time, and their feedback.

        Many short transactions do it, so that a server on the same store can write meanwhile.

        Args:
            before: exposures before this time are deleted.
            chunk: exposures per transaction, at most.

        Returns:
            Number of deleted exposures.

        Raises:
            StoreError: the database refuses; what was deleted before stays deleted.
        """
        old = sa.select(EXPOSURES.c.request_id).where(*in_range(None, before)).limit(chunk)
        total = 0
        while True:
            try:
                with self._writes.begin() as connection:
                    deleted = connection.execute(
                        EXPOSURES.delete().where(EXPOSURES.c.request_id.in_(old))
                    ).rowcount
            except sa.exc.SQLAlchemyError as error:
                raise store_error(error, []) from error
            total += deleted
            if deleted < chunk:
                return total
