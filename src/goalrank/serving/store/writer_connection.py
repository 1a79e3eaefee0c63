"""Connection of the store's writer thread, and a thread that checkpoints SQLite's log for it."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from goalrank.serving.store.database import EXPOSURES

_LOG = logging.getLogger("goalrank.serving")
_CHECKPOINT_S = 5.0


class WriterConnection:
    """Connection on which one thread inserts exposures.

    It is opened when needed, kept between transactions and closed after an error. Compiling the
    statement and taking a connection from the pool each time would take longer than the insert.

    Args:
        engine: of `database.for_writing`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: sa.Connection | None = None
        compiled = EXPOSURES.insert().compile(dialect=engine.dialect)
        self._text, self._names = str(compiled), compiled.positiontup

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Run a transaction; after an error the connection is closed and not used again.

        Yields:
            The connection.
        """
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            with self._connection.begin():
                yield self._connection
        except BaseException:
            self.close()
            raise

    def insert(self, connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
        """Insert exposures.

        Args:
            connection: of `transaction`.
            rows: of `records.exposure_row`.
        """
        names = self._names
        if names is None:
            connection.exec_driver_sql(self._text, rows)
        else:
            connection.exec_driver_sql(self._text, [tuple(row[n] for n in names) for row in rows])

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Checkpointer:
    """Thread that moves SQLite's write-ahead log into the database file (a checkpoint).

    By default SQLite lets a writer do so when the log is long: one request in 200 would wait for
    it. Other databases need no such thread.

    Args:
        engine: of the store.
        seconds: between a write and the checkpoint after it.
    """

    def __init__(self, engine: sa.Engine, seconds: float = _CHECKPOINT_S) -> None:
        self._engine, self._seconds = engine, seconds
        self._written, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        if engine.dialect.name == "sqlite":
            self._thread.start()

    def mark_written(self) -> None:
        """Tell the thread that there is something new in the log."""
        self._written.set()

    def close(self) -> None:
        """Stop the thread; SQLite empties the log when its last connection closes."""
        self._closed.set()
        self._written.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while self._written.wait() and not self._closed.wait(self._seconds):
            self._written.clear()
            try:
                self._checkpoint()
            except (sqlite3.Error, sa.exc.SQLAlchemyError) as error:
                _LOG.warning("SQLite's log could not be moved into its file yet: %s", error)

    def _checkpoint(self) -> None:
        # A raw connection: within a transaction of SQLAlchemy, a log cannot be moved.
        raw = self._engine.raw_connection()
        try:
            driver: Any = raw.driver_connection
            driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        finally:
            raw.close()
