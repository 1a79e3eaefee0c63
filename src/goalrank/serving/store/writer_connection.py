"""The store writer's own connection, and who tidies SQLite's log so that the writer need not."""

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
_TIDY_S = 5.0


class WriterConnection:
    """A connection that one thread inserts exposures on; opened when needed, dropped on any fault.

    What SQLAlchemy does for a statement and a pooled connection each time takes longer than the
    insert itself.

    Args:
        engine: of `database.writes`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: sa.Connection | None = None
        compiled = EXPOSURES.insert().compile(dialect=engine.dialect)
        self._text, self._names = str(compiled), compiled.positiontup

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A transaction; a connection that has failed is not used again."""
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            with self._connection.begin():
                yield self._connection
        except BaseException:
            self.drop()
            raise

    def insert(self, connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
        """Insert exposures."""
        names = self._names
        given: Any = rows if names is None else [tuple(row[n] for n in names) for row in rows]
        connection.exec_driver_sql(self._text, given)

    def drop(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Checkpointer:
    """A thread that moves SQLite's write-ahead log into its file every few seconds of writing.

    SQLite by itself lets a writer do so once the log is long: one request in 200 would wait for it.
    Databases of another kind need no tidying.
    """

    def __init__(self, engine: sa.Engine, seconds: float = _TIDY_S) -> None:
        self._engine, self._seconds = engine, seconds
        self._written, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        if engine.dialect.name == "sqlite":
            self._thread.start()

    def note(self) -> None:
        """Something was written."""
        self._written.set()

    def close(self) -> None:
        """Stop; closing the last connection tidies what is left."""
        self._closed.set()
        self._written.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while self._written.wait() and not self._closed.wait(self._seconds):
            self._written.clear()
            try:
                self._tidy()
            except (sqlite3.Error, sa.exc.SQLAlchemyError) as error:
                _LOG.warning("SQLite's log could not be moved into its file yet: %s", error)

    def _tidy(self) -> None:
        # Beside SQLAlchemy's transactions: within one, a log cannot be moved.
        borrowed = self._engine.raw_connection()
        try:
            driver: Any = borrowed.driver_connection
            driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        finally:
            borrowed.close()
