"""Writer thread of the store: exposures that wait at the same time are committed together."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from time import monotonic, sleep
from typing import Any

import sqlalchemy as sa

from goalrank.serving.store.database import EXPOSURES, is_transient
from goalrank.serving.store.records import not_stored
from goalrank.serving.store.store_file import StoreFile
from goalrank.serving.store.writer_connection import Checkpointer, WriterConnection
from goalrank.serving.store.writes import Write

_LOG = logging.getLogger("goalrank.serving")
_UNDO_S = 1.0  # seconds between tries to delete withdrawn exposures while nothing else is written


class _WithdrawnError(Exception):
    """Error that rolls a transaction back because a write in it was withdrawn."""


class Writer:
    """Thread that inserts exposures, all of a `Write` or none.

    Args:
        engine: of `database.for_writing`.
        file: of the store.
        commit_size: exposures per commit, at most.
        retry_seconds: see `Store`.

    Attributes:
        stored_at: when a commit succeeded last, by the monotonic clock; 0 before the first.
    """

    def __init__(
        self,
        engine: sa.Engine,
        file: StoreFile,
        commit_size: int,
        retry_seconds: float,
    ) -> None:
        self._file, self._commit_size, self._retry_seconds = file, commit_size, retry_seconds
        self._connection = WriterConnection(engine)
        self._checkpointer = Checkpointer(engine)
        self._waiting: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._unreachable, self._file_number = False, 0
        self.stored_at = 0.0
        self._undo: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._run, name="goalrank-writer", daemon=True)
        self._thread.start()

    def put(self, write: Write) -> None:
        """Add exposures to those that wait.

        Args:
            write: the exposures.
        """
        self._waiting.put(write)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def close(self, timeout: float) -> None:
        """Write what waits, then stop.

        Args:
            timeout: seconds to wait, at most; a database that does not answer holds up no longer.
        """
        self._waiting.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            _LOG.error("the store did not answer for %g s; what waits is not stored", timeout)
            return
        self._checkpointer.close()

    def _run(self) -> None:
        try:
            self._write_until_closed()
        finally:
            self._connection.close()

    def _write_until_closed(self) -> None:
        last = False
        while not last:
            try:
                first = self._waiting.get(timeout=_UNDO_S if self._undo else None)
            except queue.Empty:
                self._commit([])
                continue
            writes, last = self._gathered(first)
            self._commit(writes)

    def _gathered(self, first: Write | None) -> tuple[list[Write], bool]:
        """The writes that wait now, and whether the thread was told to stop."""
        writes: list[Write] = []
        size, each = 0, first
        while each is not None:
            writes.append(each)
            size += len(each.rows)
            if size >= self._commit_size or self._waiting.empty():
                return writes, False
            each = self._waiting.get()
        return writes, True

    def _commit(self, writes: list[Write]) -> None:
        """Insert all writes in one transaction; if it is refused, each in its own."""
        live = [write for write in writes if write.begin("running")]
        if not live and not self._undo:
            return
        try:
            self._insert(live)
        except _WithdrawnError:
            self._commit(live)
            return
        except (sa.exc.IntegrityError, sa.exc.DataError) as error:
            if len(live) == 1:
                self._refuse(live, error)
                return
            for write in live:
                self._commit([write])
            return
        except Exception as error:
            self._refuse(live, error)
            return
        self.stored_at = monotonic()
        self._undo = [row for write in live if write.finish() for row in write.rows]

    def _refuse(self, writes: Sequence[Write], error: Exception) -> None:
        self._undo += [row for write in writes if write.finish(error) for row in write.rows]

    def _insert(self, writes: Sequence[Write]) -> None:
        end = monotonic() + (0.0 if self._unreachable else self._retry_seconds)
        rows = [row for write in writes for row in write.rows]
        retrying = False
        while True:
            try:
                self._transact(writes, rows, retrying)
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

    def _transact(
        self, writes: Sequence[Write], rows: list[dict[str, Any]], retrying: bool
    ) -> None:
        number = self._file.look()
        if number != self._file_number:
            self._connection.close()
            self._file_number = number
        with self._connection.transaction() as connection:
            delete_rows(connection, self._undo)
            # An earlier try may have been committed although its answer was lost.
            missing = not_stored(connection, rows) if retrying else rows
            if missing:
                self._connection.insert(connection, missing)
            if not all(write.begin("committing") for write in writes):
                raise _WithdrawnError
        self._file.check(number)


def delete_rows(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Delete exposures that were withdrawn while they were committed, if they are unchanged.

    Args:
        connection: inside a transaction.
        rows: of `records.exposure_row`.
    """
    same = (EXPOSURES.c[name] == sa.bindparam(f"the_{name}") for name in ("request_id", "body"))
    if rows:
        values = [{"the_request_id": row["request_id"], "the_body": row["body"]} for row in rows]
        connection.execute(EXPOSURES.delete().where(*same), values)
