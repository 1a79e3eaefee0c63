"""The store: durable, idempotent, and read back as the table that was served."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time as clock
from datetime import timedelta

import pytest

from goalrank.cli.tables import read_training
from goalrank.errors import DataError
from goalrank.requests import Encoder, Requests
from goalrank.serving.export import export_store
from goalrank.serving.store import (
    DuplicateRequestError,
    Event,
    Exposure,
    Store,
    StoreError,
    UnknownRequestError,
)
from tests.tables import NOON, make_table


@pytest.fixture
def store(tmp_path):
    with Store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        yield opened


def exposures(table: Requests) -> list[Exposure]:
    names = [
        "request_id", "user_id", "time", "history", "history_feedback", "history_time",
        "candidates", "candidate_score", "candidate_features", "shown",
    ]  # fmt: skip
    rows = table.frame.select(names).iter_rows(named=True)
    return [Exposure(**row, propensity=0.5, policy="p") for row in rows]


def events(table: Requests) -> list[Event]:
    out = []
    for row in table.frame.iter_rows(named=True):
        for slot, at in enumerate(row["shown"]):
            for kind, values in row["feedback"].items():
                if values[slot]:
                    out.append(Event(row["request_id"], row["candidates"][at], kind, values[slot]))
    return out


@pytest.mark.parametrize("strings", [False, True])
def test_what_was_served_comes_back_as_the_table(store, tmp_path, strings):
    table = make_table(40, strings=strings)
    store.describe(table.info)
    store.record(exposures(table))
    store.feedback(events(table))
    done = export_store(store, tmp_path / "out", items=table.items, users=table.users)
    assert done.requests == {"train": 36, "validation": 4}
    train = Requests.read(tmp_path / "out" / "train")
    wanted = table.head(36)
    columns = [name for name in wanted.frame.columns if name != "feedback"]
    assert train.frame.select(columns).equals(wanted.frame.select(columns))
    assert train.frame["feedback"].equals(wanted.frame["feedback"])
    assert train.info == table.info
    assert train.frame["propensity"].to_list() == [0.5] * 36
    assert len(Encoder.fit(train).encode(train)) == 36
    taken, validation, _ = read_training(tmp_path / "out")  # as goalrank train does
    assert len(taken) == 36
    assert validation is not None
    assert len(validation) == 4
    assert taken.items is not None


def test_a_range_of_time_and_chunks(store):
    table = make_table(30)
    store.record(exposures(table))
    start, end = NOON + timedelta(hours=5), NOON + timedelta(hours=12)
    got = [row["request_id"] for part in store.rows(start, end, chunk=3) for row in part]
    assert got == [f"s0r{i}" for i in range(5, 12)]
    got = [row["request_id"] for part in store.rows(chunk=7) for row in part]
    assert len(got) == len(set(got)) == 30


def test_feedback_twice_is_feedback_once(store):
    table = make_table(5)
    store.record(exposures(table))
    item = table.frame["candidates"][0][int(table.frame["shown"][0][0])]
    event = Event("s0r0", item, "click", 1.0)
    assert store.feedback([event, event]).stored == 1
    assert store.feedback([event]).duplicates == 1
    assert store.feedback([Event("s0r0", item, "click", 0.0)]).replaced == 1
    assert store.count() == (5, 1)


def test_unknown_requests_and_items_store_nothing(store):
    table = make_table(5)
    store.record(exposures(table))
    item = table.frame["candidates"][0][int(table.frame["shown"][0][0])]
    good = Event("s0r0", item, "click", 1.0)
    with pytest.raises(UnknownRequestError, match="nobody"):
        store.feedback([good, Event("nobody", item, "click", 1.0)])
    with pytest.raises(UnknownRequestError, match="999"):
        store.feedback([good, Event("s0r0", 999, "click", 1.0)])
    assert store.count() == (5, 0)


def test_a_request_id_counts_once(store):
    rows = exposures(make_table(5))
    store.record(rows[:3])
    with pytest.raises(DuplicateRequestError, match="s0r2"):
        store.record(rows[2:])
    assert store.count() == (3, 0)


def test_many_writers_share_commits_and_only_the_faulty_fails(store):
    rows = exposures(make_table(200))
    store.record(rows[:1])
    failed = []

    def write(row):
        try:
            store.record([row])
        except DuplicateRequestError:
            failed.append(row.request_id)

    threads = [threading.Thread(target=write, args=(row,)) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == ["s0r0"]
    assert store.count() == (200, 0)


def test_retention(store):
    table = make_table(20)
    store.record(exposures(table))
    store.feedback(events(table))
    assert store.purge(NOON + timedelta(hours=15)) == 15
    left = [row for part in store.rows() for row in part]
    assert [row["request_id"] for row in left] == [f"s0r{i}" for i in range(15, 20)]
    assert store.count()[1] == sum(len(row["answers"]) for row in left)


def test_nothing_to_export_and_bad_addresses(store, tmp_path):
    with pytest.raises(DataError, match="no exposure"):
        export_store(store, tmp_path / "out")
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(f"sqlite:///{tmp_path / 'absent' / 'x.db'}")


_WRITER = """
    import sys
    from goalrank.serving.store import Exposure, Store
    from datetime import UTC, datetime
    store = Store(sys.argv[1])
    for i in range(100_000):
        store.record([Exposure(f"k{i}", 1, datetime.now(UTC), [1, 2], [0])])
        print(i, flush=True)
"""


def test_killed_under_load_every_acknowledged_exposure_is_there(tmp_path):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with (tmp_path / "acknowledged").open("w+") as out:
        writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(_WRITER), url], stdout=out)
        end = clock.monotonic() + 60
        while clock.monotonic() < end and (tmp_path / "acknowledged").stat().st_size < 800:
            clock.sleep(0.02)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    acknowledged = (tmp_path / "acknowledged").read_text().split("\n")[:-1]
    with Store(url) as store:
        there = {row["request_id"] for part in store.rows() for row in part}
    missing = [i for i in acknowledged if f"k{i}" not in there]
    print(f"{len(acknowledged)} acknowledged before SIGKILL, {len(missing)} missing")
    assert len(acknowledged) > 100
    assert missing == []
