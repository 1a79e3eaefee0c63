"""Tables of the store, and the settings by which SQLite and PostgreSQL keep them durably."""

from __future__ import annotations

import errno
import sqlite3
from time import sleep
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection

from goalrank.errors import (
    ConfigError,
    DuplicateRequestError,
    GoalRankError,
    MissingExtraError,
    StoreError,
    StoreFullError,
)

_METADATA = sa.MetaData()
# PostgreSQL sorts by its locale by default; exports are in byte order in every database.
_ID = sa.String().with_variant(sa.String(collation="C"), "postgresql")
EXPOSURES = sa.Table(
    "exposures",
    _METADATA,
    sa.Column("request_id", _ID, primary_key=True),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    sa.Column("scored", sa.Boolean, nullable=False),  # came with the retriever's scores
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("exposures_by_time", "time_us", "request_id"),
)
FEEDBACK = sa.Table(
    "feedback",
    _METADATA,
    # The foreign key deletes feedback with its exposure and refuses feedback to a deleted one.
    sa.Column(
        "request_id", _ID, sa.ForeignKey(EXPOSURES.c.request_id, ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("slot", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String, primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("time_us", sa.BigInteger, nullable=False),
)  # fmt: skip
META = sa.Table(
    "meta",
    _METADATA,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
_LOCK = 0x60A12A4B  # an arbitrary number: workers that start together create the tables in turn
_CONNECT_S = 3
STATEMENT_S = 5  # seconds that a statement may take, and that it waits for a lock
_LIMITS = f"-c statement_timeout={STATEMENT_S}s -c idle_in_transaction_session_timeout=60s"
_LOG_PAGES = 16_384  # 64 MB


def open_engine(url: str) -> sa.Engine:
    """Open the database and create the tables of the store that are missing.

    Several processes may do so at the same time.

    Args:
        url: SQLAlchemy's address, e.g. `sqlite:///goalrank.db`.

    Returns:
        SQLAlchemy's engine.

    Raises:
        StoreError: the database cannot be reached, or refuses.
        ConfigError: neither a SQLite file nor PostgreSQL.
        MissingExtraError: PostgreSQL without its driver.
    """
    try:
        engine = _create_engine(parse_url(url))
        with for_writing(engine).begin() as connection:
            take_turns(connection)
            _METADATA.create_all(connection)
    except sa.exc.SQLAlchemyError as error:
        raise StoreError(
            f"store '{_without_password(url)}' cannot be opened ({first_line(error)}); remedy: check the "
            f"address and rights; option: store (GOALRANK_STORE)"
        ) from error
    return engine


def take_turns(connection: sa.Connection) -> None:
    """Let one process at a time create tables or describe a model, until its transaction ends.

    Args:
        connection: inside a transaction that writes; SQLite's has taken its turn already.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def for_writing(engine: sa.Engine) -> sa.Engine:
    """Return the engine with the options of transactions that write.

    SQLite then takes its write lock at the start of the transaction and waits for it there. A
    transaction that reads first and writes later would be refused if another one has written in
    between.

    Args:
        engine: of `open_engine`.
    """
    return engine.execution_options(writes=True)


def for_reading(engine: sa.Engine) -> sa.Engine:
    """Return the engine with snapshots: all statements of a transaction see the same rows.

    Args:
        engine: of `open_engine`.
    """
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ", reads=True)


def is_transient(error: BaseException) -> bool:
    """Whether the connection to the database was lost, so that another try may succeed.

    That happens when the database restarts or fails over.

    Args:
        error: of a statement.
    """
    if not isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)):
        return False
    module = type(error.orig).__module__
    return module.startswith("psycopg") and not _sqlstate(error).startswith("53")


def store_error(error: Exception, rows: list[dict[str, Any]]) -> GoalRankError:
    """Make the error that a failed write raises.

    Args:
        error: of the database.
        rows: exposures that were to be inserted; empty for other writes.

    Returns:
        DuplicateRequestError, StoreFullError or StoreError.
    """
    if isinstance(error, StoreError):
        return error
    if isinstance(error, sa.exc.IntegrityError) and rows:
        ids = [row["request_id"] for row in rows]
        return DuplicateRequestError(
            f"a request id of {ids[:3]} is in the store already; nothing was stored; remedy: give "
            f"each request its own id, or none"
        )
    if is_full(error):
        return StoreFullError(
            f"the store's disk is full ({first_line(error)}); nothing was stored; remedy: free "
            f"space, or delete old exposures: goalrank store purge"
        )
    return StoreError(f"the store refuses ({first_line(error)}); nothing was stored")


def parse_url(url: str) -> sa.URL:
    """Read an address.

    Args:
        url: as for `open_engine`.

    Raises:
        ConfigError: neither a SQLite file nor PostgreSQL.
    """
    try:
        address = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise ConfigError(
            "the store's address is not a URL; remedy: sqlite:///FILE or "
            "postgresql+psycopg://USER@HOST/DATABASE; option: store (GOALRANK_STORE)"
        ) from error
    if address.drivername in ("postgres", "postgresql"):
        address = address.set(drivername="postgresql+psycopg")
    kind = address.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        raise ConfigError(
            f"store '{_without_password(url)}' is {kind}; remedy: sqlite or postgresql; option: store "
            f"(GOALRANK_STORE)"
        )
    if kind == "sqlite" and address.database in (None, "", ":memory:"):
        raise ConfigError(
            f"store '{_without_password(url)}' names no file and would lose everything at the end; remedy: "
            f"sqlite:///FILE, or no store at all; option: store (GOALRANK_STORE)"
        )
    return address


def _create_engine(address: sa.URL) -> sa.Engine:
    if address.get_backend_name() == "sqlite":
        engine = sa.create_engine(address)
        sa.event.listen(engine, "connect", _durable_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    given = {
        "connect_timeout": _CONNECT_S,
        "tcp_user_timeout": 1000 * STATEMENT_S,
        "options": _LIMITS,
    }
    arguments = {name: value for name, value in given.items() if name not in address.query}
    try:
        # A ping before use: after a restart of the database no request gets a dead connection.
        engine = sa.create_engine(
            address, pool_pre_ping=True, pool_timeout=5, connect_args=arguments
        )
    except ImportError as error:
        raise MissingExtraError(f"store '{_without_password(str(address))}'", "postgres") from error
    sa.event.listen(engine, "connect", _durable_postgresql)
    sa.event.listen(engine, "begin", _begin_postgresql)
    return engine


def _durable_sqlite(connection: DBAPIConnection, _: object) -> None:
    """Set up the write-ahead log and commits that survive a power cut."""
    connection.isolation_level = None  # `_begin_sqlite` begins the transactions
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={1000 * STATEMENT_S}")
    for tries_left in range(100, -1, -1):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError:  # this switch does not wait for other connections
            if not tries_left:
                raise
            sleep(0.02)
    cursor.execute("PRAGMA synchronous=FULL")
    # `Checkpointer` moves the log into the file; a writer does so only if that is too slow.
    cursor.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _begin_postgresql(connection: sa.Connection) -> None:
    """Let exports take as long as they need."""
    if connection.get_execution_options().get("reads", False):
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


def _durable_postgresql(connection: DBAPIConnection, _: object) -> None:
    """Make commits wait for the disk whatever the role's default is; keep stricter settings."""
    cursor = connection.cursor()
    try:
        cursor.execute(
            "select set_config('synchronous_commit', 'on', false) "
            "where current_setting('synchronous_commit') = 'off'"
        )
    finally:
        cursor.close()
    connection.commit()


def is_full(error: Exception) -> bool:
    """Whether a write failed because the disk is full.

    Args:
        error: of the database or the operating system.
    """
    cause = getattr(error, "orig", error)
    if getattr(cause, "sqlite_errorname", "") == "SQLITE_FULL" or _sqlstate(error) == "53100":
        return True
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)


def _sqlstate(error: Exception) -> str:
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def _without_password(url: str) -> str:
    """Write an address without its password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "?"


def first_line(error: Exception) -> str:
    """What an error says, without its statement and parameters.

    Args:
        error: of the database.
    """
    return next(iter(str(error).splitlines()), type(error).__name__)
