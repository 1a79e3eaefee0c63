"""The writer's connection, and SQLite's log moved into its file beside it."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from goalrank.errors import DuplicateRequestError
from goalrank.serving.store.records import Exposure
from goalrank.serving.store.store import Store
from goalrank.serving.store.writer_connection import Checkpointer


def one(number: int) -> Exposure:
    return Exposure(f"r{number}", 1, datetime.now(UTC), [1, 2], [0])


@pytest.fixture
def store(tmp_path):
    with Store(f"sqlite:///{tmp_path / 's.db'}") as opened:
        yield opened


def in_file(folder) -> int:
    """Exposures in the database's file without its log."""
    alone = folder / "alone.db"
    shutil.copy(folder / "s.db", alone)
    engine = sa.create_engine(f"sqlite:///{alone}")
    try:
        with engine.connect() as connection:
            return connection.scalar(sa.text("select count(*) from exposures"))
    except sa.exc.OperationalError:  # not even the table
        return 0
    finally:
        engine.dispose()


def test_the_log_is_moved_soon_after_writing(store, tmp_path):
    for number in range(20):
        store.record([one(number)])
    assert in_file(tmp_path) < 20
    checkpointer = Checkpointer(store.engine, seconds=0.02)
    checkpointer.mark_written()
    end = time.monotonic() + 20
    while in_file(tmp_path) < 20 and time.monotonic() < end:
        time.sleep(0.02)
    checkpointer.close()
    assert in_file(tmp_path) == 20


def test_a_log_that_cannot_be_moved_is_no_end(store, tmp_path, caplog, monkeypatch):
    tries = []

    def fail():
        tries.append(1)
        raise sa.exc.OperationalError("pragma", {}, OSError("disk"))

    checkpointer = Checkpointer(store.engine, seconds=0.01)
    monkeypatch.setattr(checkpointer, "_checkpoint", fail)
    end = time.monotonic() + 20
    while len(tries) < 3 and time.monotonic() < end:
        checkpointer.mark_written()
        time.sleep(0.01)
    checkpointer.close()
    assert len(tries) >= 3
    assert "could not be moved" in caplog.text


def test_a_refused_write_leaves_a_connection_that_works(store):
    opened = []
    sa.event.listen(store.engine, "checkout", lambda *_: opened.append(1))
    for number in range(5):
        store.record([one(number)])
    with pytest.raises(DuplicateRequestError):
        store.record([one(0)])
    for number in range(5, 10):
        store.record([one(number)])
    assert len(opened) == 2  # one until the refusal, one since
    assert store.count()[0] == 10
