"""SQLite's file on disk: proof that what was committed is in the file that the address names."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from time import sleep
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from goalrank.errors import StoreError

_Identity = tuple[int, int]
_NEWEST = "SELECT body FROM exposures ORDER BY rowid DESC LIMIT 1"
_HEADER = "SELECT count(*) FROM sqlite_master WHERE rowid = 1"
_LOOKS, _STILL_S = 6, 0.5  # looks at a file that is being written; seconds between two
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# Of the log: https://sqlite.org/walformat.html
_LOG_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_LOG_HEADER, _FRAME_HEADER = 32, 24  # bytes


class StoreFile:
    """The file of a SQLite store and its write-ahead log, as they were when it was opened.

    A process can go on writing to a file that was removed or replaced: every commit succeeds, and
    is lost. Other databases prove their commits themselves.

    Args:
        engine: of the store.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        name = engine.url.database if engine.dialect.name == "sqlite" else None
        self._path = None if name is None or name.startswith("file:") else Path(name)
        self._lock = threading.Lock()
        self._file = self._identity()
        self._log: _Identity | None = None
        self._number = 0
        self._damage: str | None = None

    def _identity(self, suffix: str = "") -> _Identity | None:
        if self._path is None:
            return None
        try:
            found = os.stat(f"{self._path}{suffix}")
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def look(self) -> int:
        """Look before a write whether the file is there; one that was replaced is opened anew.

        Returns:
            Number of the file, counted from 0: a connection to one of another number is stale.

        Raises:
            StoreError: it is not there, and a connection would make an empty one; or it was found
                damaged, and has not been found whole since.
        """
        if self._damage is not None:
            self.read_back()
        if self._damage is not None:
            raise StoreError(self._damage)
        now = self._identity()
        if now is None and self._path is not None:
            raise self._gone("removed")
        self._refuse_empty()
        with self._lock:
            changed, self._file = now != self._file, now
            if changed:
                self._log = None
                self._number += 1
            number = self._number
        if changed:
            self._engine.dispose()
        return number

    def check(self, number: int) -> None:
        """Look after a commit whether it is in the file that the address names.

        Args:
            number: of `look` before the connection was opened.

        Raises:
            StoreError: the file or its log was removed, replaced or overwritten meanwhile.
        """
        if self._path is None:
            return
        try:
            self._read_log()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error
        now, log = self._identity(), self._identity("-wal")
        with self._lock:
            self._log = self._log or log
            same = number == self._number and now == self._file
            if same and log is not None and log == self._log:
                return
            self._log = None
            self._number += 1  # connections of this moment are not used again
        self._engine.dispose()
        raise self._gone("removed" if now is None or log is None else "replaced")

    def read_back(self) -> None:
        """Read the store as one does that opens it now.

        A connection goes on with the pages that it holds and the log's index in memory, whatever
        became of those on the disk: what it commits then is lost at the next start.

        Raises:
            StoreError: the file or its log is damaged; nothing is written until it is whole again.
        """
        if self._path is None:
            return
        self._refuse_empty()
        try:
            self._read_log()
            self._read_header()
            self._read(_NEWEST, "mode=ro")
        except sqlite3.DatabaseError as error:
            if _code(error) not in _DAMAGED:
                return  # locked or closed just now: no word about the file
            raise self._damaged(error) from error
        self._damage = None

    def _refuse_empty(self) -> None:
        """Refuse a file that was cut to nothing, before a connection removes the log beside it."""
        found = self._written()
        if found is not None and found[0] == 0:
            raise self._damaged(sqlite3.DatabaseError("the file is empty"))

    def _damaged(self, error: sqlite3.Error) -> StoreError:
        self._damage = (
            f"the store refuses ({error}): '{self._path}' is damaged; nothing was stored; remedy: "
            f"goalrank store check, then put a copy of goalrank store backup in its place"
        )
        with self._lock:
            self._number += 1  # connections of this moment are not used again
        self._engine.dispose()
        return StoreError(self._damage)

    def _read(self, statement: str, how: str) -> Any:
        """First value of a statement, by a connection of its own, which has no page in memory."""
        address = f"file:{quote(str(Path(self._path or '').absolute()))}?{how}"
        with closing(sqlite3.connect(address, uri=True, timeout=1.0)) as connection:
            row = connection.execute(statement).fetchone()
            return None if row is None else row[0]

    def _read_header(self) -> None:
        """Read the file alone, without its log.

        A checkpoint writes the first page before those that it adds: while it runs, and after one that
        found the disk full, the file is shorter than its header says, like a damaged one. But the log
        has the rest then, and damage stays when nobody writes.
        """
        for _ in range(_LOOKS):
            before = self._written()
            try:
                self._read(_HEADER, "mode=ro&immutable=1")
                return
            except sqlite3.DatabaseError as error:
                if self._damage is not None or _code(error) not in _DAMAGED:
                    raise
                if self._rest_is_in_log():
                    return
                sleep(_STILL_S)
                if self._written() == before:
                    raise

    def _rest_is_in_log(self) -> bool:
        """Whether the log has every page that the file lacks."""
        size = self._read("PRAGMA page_size", "mode=ro")
        whole = self._read("PRAGMA page_count", "mode=ro")  # with those of the log
        found = self._written()
        return found is not None and self._logged(size) >= set(
            range(found[0] // size + 1, whole + 1)
        )

    def _logged(self, size: int) -> set[int]:
        """Numbers of the pages that the log holds; those of its earlier rounds are not counted."""
        pages: set[int] = set()
        path = Path(f"{self._path}-wal")
        if not path.exists():
            return pages
        with path.open("rb") as opened:
            salts = opened.read(_LOG_HEADER)[16:24]
            while (
                len(frame := opened.read(_FRAME_HEADER)) == _FRAME_HEADER and frame[8:16] == salts
            ):
                pages.add(int.from_bytes(frame[:4], "big"))
                opened.seek(size, os.SEEK_CUR)
        return pages

    def _written(self) -> tuple[int, int] | None:
        """Size of the file and the time when it was written last."""
        try:
            found = os.stat(self._path or "")
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns

    def _read_log(self) -> None:
        # SQLite locks the file and the log's index, never the log: closing it here drops no lock.
        try:
            with Path(f"{self._path}-wal").open("rb") as opened:
                begin = opened.read(4)
        except OSError:
            return
        if len(begin) == 4 and begin not in _LOG_MAGIC:
            error = sqlite3.DatabaseError("the write-ahead log does not begin as one")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

    def _gone(self, what: str) -> StoreError:
        return StoreError(
            f"the store's file '{self._path}' or its log was {what} while it was served; nothing "
            f"was stored; remedy: put the file back, or start the server again for a new one"
        )


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
