"""The store's tables, and what SQLite and PostgreSQL each need to keep them durably."""

from __future__ import annotations

import errno
from time import sleep
from typing import Any

import sqlalchemy as sa

from goalrank.errors import (
    ConfigError,
    DuplicateRequestError,
    GoalRankError,
    MissingExtraError,
    StoreError,
    StoreFullError,
)

_METADATA = sa.MetaData()
# PostgreSQL sorts by its locale unless told otherwise; exports run in byte order everywhere.
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
    # The key lets no answer outlive its exposure, nor arrive while that is being forgotten.
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
_LOCK = 0x60A12A4B  # any number that is ours: workers that start at once make the tables in turn
_CONNECT_S = 3
_LOG_PAGES = 16_384  # 64 MB


def open_engine(url: str) -> sa.Engine:
    """An engine on the store's tables, which are made if absent; many processes may do so at once.

    Raises:
        StoreError: the database cannot be reached, or refuses.
        ConfigError: neither a SQLite file nor PostgreSQL.
        MissingExtraError: PostgreSQL without its driver.
    """
    try:
        engine = _engine(_address(url))
        with writes(engine).begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            _METADATA.create_all(connection)
    except sa.exc.SQLAlchemyError as error:
        raise StoreError(
            f"store '{_shown(url)}' cannot be opened ({_first_line(error)}); remedy: check the "
            f"address and rights; option: store (GOALRANK_STORE)"
        ) from error
    return engine


def writes(engine: sa.Engine) -> sa.Engine:
    """The same engine for transactions that write.

    SQLite then takes its write lock at the start and waits for it there: a transaction that reads
    first and writes later would be refused at once where another has written in between.
    """
    return engine.execution_options(writes=True)


def snapshot(engine: sa.Engine) -> sa.Engine:
    """The same engine for reading: every statement of a transaction sees the same rows."""
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ")


def passing(error: BaseException) -> bool:
    """Whether the database was lost (restarted, failing over), so that another try may succeed."""
    if not isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)):
        return False
    module = type(error.orig).__module__
    return module.startswith("psycopg") and not _state(error).startswith("53")


def refusal(error: Exception, rows: list[dict[str, Any]]) -> GoalRankError:
    """What a failed write means to the caller."""
    if isinstance(error, sa.exc.IntegrityError) and rows:
        ids = [row["request_id"] for row in rows]
        return DuplicateRequestError(
            f"a request id of {ids[:3]} is in the store already; nothing was stored; remedy: give "
            f"each request an id of its own, or none"
        )
    if _full(error):
        return StoreFullError(
            f"the store's disk is full ({_first_line(error)}); nothing was stored; remedy: free "
            f"space, or forget old exposures: goalrank store purge"
        )
    return StoreError(f"the store refuses ({_first_line(error)}); nothing was stored")


def _address(url: str) -> sa.URL:
    try:
        address = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise ConfigError(
            "the store's address is no URL; remedy: sqlite:///FILE or "
            "postgresql+psycopg://USER@HOST/DATABASE; option: store (GOALRANK_STORE)"
        ) from error
    if address.drivername in ("postgres", "postgresql"):
        address = address.set(drivername="postgresql+psycopg")
    kind = address.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        raise ConfigError(
            f"store '{_shown(url)}' is {kind}; remedy: sqlite or postgresql; option: store "
            f"(GOALRANK_STORE)"
        )
    if kind == "sqlite" and address.database in (None, "", ":memory:"):
        raise ConfigError(
            f"store '{_shown(url)}' names no file and would forget all; remedy: sqlite:///FILE, or "
            f"none to keep nothing; option: store (GOALRANK_STORE)"
        )
    return address


def _engine(address: sa.URL) -> sa.Engine:
    if address.get_backend_name() == "sqlite":
        engine = sa.create_engine(address)
        sa.event.listen(engine, "connect", _durable_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    arguments = {} if "connect_timeout" in address.query else {"connect_timeout": _CONNECT_S}
    try:
        # Pinged before use: after a restart of the database no request meets a dead connection.
        engine = sa.create_engine(
            address, pool_pre_ping=True, pool_timeout=5, connect_args=arguments
        )
    except ImportError as error:
        raise MissingExtraError(f"store '{_shown(str(address))}'", "postgres") from error
    sa.event.listen(engine, "connect", _durable_postgresql)
    return engine


def _durable_sqlite(connection: Any, _: object) -> None:
    """Write-ahead log, and a commit that survives a power cut."""
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=5000")
    for left in range(100, -1, -1):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            break
        except connection.OperationalError:  # the switch does not wait for others by itself
            if not left:
                raise
            sleep(0.02)
    cursor.execute("PRAGMA synchronous=FULL")
    # `Tidier` moves the log into the file; a writer does so only if that does not keep up.
    cursor.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _durable_postgresql(connection: Any, _: object) -> None:
    """A commit that is on disk, whatever the role's default; stricter settings stay."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select set_config('synchronous_commit', 'on', false) "
            "where current_setting('synchronous_commit') = 'off'"
        )
    connection.commit()


def _full(error: Exception) -> bool:
    cause: Any = getattr(error, "orig", error)
    if getattr(cause, "sqlite_errorname", "") == "SQLITE_FULL" or _state(error) == "53100":
        return True
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)


def _state(error: Exception) -> str:
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def _shown(url: str) -> str:
    """The address without its password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "?"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
