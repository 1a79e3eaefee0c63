"""Upkeep of a store: a copy while it is served, a check of what is in it, and giving space back."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

from goalrank.errors import ConfigError, StoreError, StoreFullError
from goalrank.serving.store.database import (
    EXPOSURES,
    FEEDBACK,
    STATEMENT_S,
    is_full,
    open_engine,
    parse_url,
)
from goalrank.storage import whole_file

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_FAULTS = 100
_FAULTS = {
    "PRAGMA foreign_key_check": "a row of table {0} belongs to an exposure that is not there",
    "SELECT request_id FROM exposures WHERE NOT json_valid(body)": "exposure {0} cannot be read",
}


@dataclass(frozen=True)
class StoreState:
    """What is in a store.

    Attributes:
        exposures: number of exposures.
        feedback: number of feedback values.
        oldest: time of the oldest exposure; None where there is none.
        newest: time of the newest.
        size: bytes on disk.
        faults: what is damaged; empty for a sound store.
    """

    exposures: int = 0
    feedback: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    size: int = 0
    faults: tuple[str, ...] = ()


def backup_store(url: str, out: Path) -> int:
    """Copy a SQLite store to one file, as it is at one moment; a server may write meanwhile.

    Args:
        url: address of the store.
        out: a new file.

    Returns:
        Size of the copy in bytes.

    Raises:
        ConfigError: the file exists, or the store is no SQLite file.
        StoreError: there is no such store, it is damaged, or the disk is full.
    """
    path = _sqlite_file(url)
    if path is None:
        raise ConfigError(
            "this store is PostgreSQL, which has its own copies; remedy: pg_dump --format=custom; "
            "option: store (GOALRANK_STORE)"
        )
    if out.exists():
        raise ConfigError(f"'{out}' exists already; remedy: another file; option: out")
    with (
        _errors(path),
        whole_file(out, error=StoreError) as temporary,
        closing(_read_only(path)) as source,
    ):
        with closing(sqlite3.connect(temporary)) as copy:
            source.backup(copy)  # one step: one moment
            copy.execute("PRAGMA journal_mode=DELETE")  # all in this file, none in a log beside it
            faults = _damages(copy)
        if faults:
            raise StoreError(
                f"the store '{path}' is damaged, so it was not copied: {faults[0]}; remedy: goalrank "
                f"store check lists all faults; put an earlier copy in its place"
            )
    return out.stat().st_size


def check_store(url: str) -> StoreState:
    """Look whether a store is sound, and count what is in it; nothing is changed.

    Args:
        url: address of the store.

    Raises:
        StoreError: there is no such store, or it cannot be reached.
    """
    path = _sqlite_file(url)
    if path is None:
        return _state(url)
    try:
        with closing(_read_only(path)) as connection:
            faults = _damages(connection)
    except sqlite3.DatabaseError as error:
        faults = [str(error)]
    if faults:
        return StoreState(size=path.stat().st_size, faults=tuple(faults))
    return _state(url)


def compact_store(url: str) -> tuple[int, int]:
    """Give the space of purged exposures back to the disk; writes wait meanwhile.

    Args:
        url: address of the store.

    Returns:
        Bytes on disk before and after.

    Raises:
        StoreError: there is no such store, it stays locked, or the disk is too full.
    """
    path = _sqlite_file(url)
    if path is None:
        return _compact_postgresql(url)
    before = _size(path)
    free = shutil.disk_usage(path.parent).free
    if free < before:
        raise StoreFullError(
            f"compacting '{path}' needs room for a second copy, {before:,} bytes, but {free:,} are "
            f"free; nothing was changed; remedy: free space, or move the file to a larger disk"
        )
    with (
        _errors(path),
        closing(sqlite3.connect(path, timeout=STATEMENT_S, isolation_level=None)) as connection,
    ):
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return before, _size(path)


def older_than(state: StoreState, days: float, now: datetime | None = None) -> bool:
    """Whether a store holds exposures older than so many days.

    Args:
        state: of the store.
        days: the limit.
        now: None is now.
    """
    limit = (now or datetime.now(UTC)) - timedelta(days=days)
    return state.oldest is not None and state.oldest < limit


def _sqlite_file(url: str) -> Path | None:
    """The file of a SQLite store; None for another database."""
    address = parse_url(url)
    if address.get_backend_name() != "sqlite":
        return None
    path = Path(str(address.database))
    if not path.is_file():
        raise StoreError(
            f"there is no store at '{path}'; remedy: another address; option: store (GOALRANK_STORE)"
        )
    return path


def _read_only(path: Path) -> sqlite3.Connection:
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    return sqlite3.connect(address, uri=True, timeout=STATEMENT_S)


def _damages(connection: sqlite3.Connection) -> list[str]:
    """What is wrong in a SQLite store."""
    found = [row[0] for row in connection.execute(f"PRAGMA integrity_check({_MOST_FAULTS})")]
    if found != ["ok"]:
        return found
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    if not {EXPOSURES.name, FEEDBACK.name} <= names:
        return ["it holds no tables of goalrank"]
    return [
        text.format(row[0])
        for query, text in _FAULTS.items()
        for row in connection.execute(query).fetchmany(_MOST_FAULTS)
    ]


def _size(path: Path) -> int:
    """Bytes of a SQLite store and its log."""
    log = path.with_name(f"{path.name}-wal")
    return path.stat().st_size + (log.stat().st_size if log.exists() else 0)


def _state(url: str) -> StoreState:
    """Count what is in a sound store."""
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            oldest, newest, exposures = connection.execute(
                sa.select(
                    sa.func.min(EXPOSURES.c.time_us), sa.func.max(EXPOSURES.c.time_us),
                    sa.func.count(),
                )
            ).one()  # fmt: skip
            feedback = connection.scalar(sa.select(sa.func.count()).select_from(FEEDBACK))
            size = _postgresql_size(connection)
    finally:
        engine.dispose()
    path = _sqlite_file(url)
    return StoreState(
        exposures,
        feedback or 0,
        _moment(oldest),
        _moment(newest),
        size if path is None else _size(path),
    )


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)


def _postgresql_size(connection: sa.Connection) -> int:
    if connection.dialect.name != "postgresql":
        return 0
    query = sa.text("SELECT pg_total_relation_size(CAST(:name AS regclass))")
    names = (EXPOSURES.name, FEEDBACK.name)
    return sum(connection.scalar(query, {"name": name}) or 0 for name in names)


def _compact_postgresql(url: str) -> tuple[int, int]:
    engine = open_engine(url)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            before = _postgresql_size(connection)
            connection.execute(sa.text("SET statement_timeout = 0"))
            connection.execute(sa.text(f"VACUUM (FULL, ANALYZE) {EXPOSURES.name}, {FEEDBACK.name}"))
            return before, _postgresql_size(connection)
    except sa.exc.SQLAlchemyError as error:
        raise StoreError(f"the store refuses ({str(error).splitlines()[0]})") from error
    finally:
        engine.dispose()


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Say what SQLite or the disk refused."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if is_full(error):
            raise StoreFullError(
                f"the disk is full ({error}); nothing was changed; remedy: free space"
            ) from error
        raise StoreError(
            f"the store '{path}' refuses ({error}); nothing was changed; remedy: goalrank store check, "
            f"or try again when less is written"
        ) from error
