"""`Store`: exposures and feedback in SQLite (the default) or PostgreSQL."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
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
from goalrank.serving.store.layouts import describe, put_meta, stored_info
from goalrank.serving.store.records import (
    Event,
    Exposure,
    FeedbackCounts,
    exposure_row,
    feedback_rows,
    in_range,
    stored_feedback,
    write_feedback,
)
from goalrank.serving.store.store_file import StoreFile
from goalrank.serving.store.writer import Writer
from goalrank.serving.store.writes import Write, confirm

__all__ = ["CONFIRM_S", "Event", "Exposure", "FeedbackCounts", "Store", "confirm"]

CONFIRM_S = 10.0  # seconds that a write may take
CLOSE_S = 3.0  # seconds that closing waits for a database that does not answer


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
        self._retry_seconds = retry_seconds
        self._closed = False
        self._file = StoreFile(self.engine)
        self._writer = Writer(self._writes, self._file, commit_size, retry_seconds)

    def close(self) -> None:
        """Write the waiting exposures, then close the connections to the database."""
        if not self._closed:
            self._closed = True
            self._writer.close(CLOSE_S)
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
            StoreError: the database refuses, cannot be reached, or takes longer than `timeout`;
                nothing is stored then.
        """
        confirm(self.submit(exposures), timeout)

    def submit(self, exposures: Sequence[Exposure]) -> Write:
        """Hand exposures to the writer thread, which stores all or none of them.

        Args:
            exposures: the exposures.

        Returns:
            The write, which can be withdrawn; see `confirm`.

        Raises:
            StoreError: the store is closed.
        """
        if self._closed:
            raise StoreError("the store is closed; remedy: open it again")
        write = Write([exposure_row(exposure) for exposure in exposures])
        self._writer.put(write)
        return write

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
        end = monotonic() + self._retry_seconds
        while True:
            number = self._file.look()
            try:
                with self._writes.begin() as connection:
                    rows, within = feedback_rows(connection, events)
                    counts = write_feedback(connection, rows, self.engine.dialect.name) + within
                self._file.check(number)
                return counts
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

    def probe(self, fresh: float = 0.0) -> None:
        """Write a word to the store, and read what was written last.

        Args:
            fresh: seconds; no word is written if an exposure was stored since.

        Raises:
            StoreError: the store is gone, full, damaged, locked or cannot be reached, or its writer
                thread has ended.
        """
        if not self._writer.alive:
            raise StoreError("the store's writer has ended; remedy: start the server again")
        self._file.read_back()
        number = self._file.look()
        try:
            if monotonic() - self._writer.stored_at > fresh:
                with self._writes.begin() as connection:
                    put_meta(connection, "probe", secrets.token_hex(8))
        except sa.exc.SQLAlchemyError as error:
            raise store_error(error, []) from error
        self._file.check(number)

    def alive(self) -> bool:
        """Whether the database takes writes and the writer thread runs."""
        try:
            self.probe()
        except StoreError:
            return False
        return True

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
