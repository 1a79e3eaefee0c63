"""SQLite's file as it is while a checkpoint writes it."""

from __future__ import annotations

import os
import sqlite3
import struct
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from goalrank.errors import StoreError
from goalrank.serving.store.store_file import StoreFile


@pytest.fixture
def half_moved(tmp_path: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """A store whose log is moved into the file just now: the first page is there, new ones are not."""
    path = tmp_path / "s.db"
    with closing(
        sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    ) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("CREATE TABLE exposures (body TEXT)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO exposures VALUES (?)", [("x" * 1000,)] * 500)
        connection.execute("COMMIT")
        write_first_page(path)
        yield path, connection


def write_first_page(path: Path) -> None:
    """Do what a checkpoint does first: the newest first page goes from the log into the file."""
    log = Path(f"{path}-wal").read_bytes()
    size = struct.unpack(">I", log[8:12])[0]  # https://sqlite.org/walformat.html
    frames = [log[at : at + 24 + size] for at in range(32, len(log), 24 + size)]
    newest = [frame[24:] for frame in frames if struct.unpack(">I", frame[:4])[0] == 1][-1]
    file = os.open(path, os.O_WRONLY)
    os.pwrite(file, newest, 0)
    os.close(file)


def test_a_checkpoint_under_way_is_no_damage(half_moved: tuple[Path, sqlite3.Connection]) -> None:
    path, connection = half_moved
    file = StoreFile(sa.create_engine(f"sqlite:///{path}"))
    rest = threading.Timer(0.2, connection.execute, ["PRAGMA wal_checkpoint(PASSIVE)"])
    rest.start()
    file.read_back()
    rest.join()
    assert file.look() == 0


def test_a_checkpoint_that_found_no_room_is_no_damage(
    half_moved: tuple[Path, sqlite3.Connection],
) -> None:
    """The log has the rest of the file; a copy of a backup in its place would lose what it holds."""
    path, connection = half_moved
    file = StoreFile(sa.create_engine(f"sqlite:///{path}"))
    for _ in range(2):
        file.read_back()
        assert file.look() == 0
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.read_back()
    assert connection.execute("SELECT count(*) FROM exposures").fetchone() == (500,)


def test_a_file_that_stays_cut_off_is_damaged(
    half_moved: tuple[Path, sqlite3.Connection],
) -> None:
    path, connection = half_moved
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = read(path)[0]
    connection.execute("INSERT INTO exposures VALUES ('new')")  # the log has some pages, not all
    os.truncate(path, len(whole) // 2)
    file = StoreFile(sa.create_engine(f"sqlite:///{path}"))
    with pytest.raises(StoreError, match="is damaged"):
        file.read_back()
    with pytest.raises(StoreError, match="is damaged"):
        file.look()
    path.write_bytes(whole)
    assert file.look() > 0  # connections of before are not used again


def test_a_cut_file_without_a_log_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE exposures (body TEXT)")
        connection.executemany("INSERT INTO exposures VALUES (?)", [("x" * 1000,)] * 500)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StoreError, match="is damaged"):
        StoreFile(sa.create_engine(f"sqlite:///{path}")).read_back()


def test_a_file_cut_to_nothing_is_damaged_and_its_log_stays(
    half_moved: tuple[Path, sqlite3.Connection],
) -> None:
    """SQLite removes the log of an empty file when it opens it, and with it the newest rows."""
    path, _ = half_moved
    file, whole, log = StoreFile(sa.create_engine(f"sqlite:///{path}")), *read(path)
    os.truncate(path, 0)
    for ask in (file.look, file.read_back, file.look):
        with pytest.raises(StoreError, match=r"the file is empty.*is damaged"):
            ask()
    assert read(path) == (b"", log)
    path.write_bytes(whole)
    with sqlite3.connect(path) as rest:
        rest.execute("PRAGMA wal_checkpoint(PASSIVE)")
    assert file.look() > 0


def read(path: Path) -> tuple[bytes, bytes]:
    """The file and its log."""
    return path.read_bytes(), Path(f"{path}-wal").read_bytes()
