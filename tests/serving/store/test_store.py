"""The store: durable, idempotent, and read back as the table that was served."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time as clock
import uuid
from datetime import timedelta

import pytest

from goalrank.cli.tables import read_training
from goalrank.errors import (
    ConfigError,
    DataError,
    DuplicateRequestError,
    StoreError,
    StoreFullError,
    UnknownRequestError,
)
from goalrank.requests import Encoder, Requests
from goalrank.serving.store.export import export_store
from goalrank.serving.store.records import (
    Event,
    Exposure,
)
from goalrank.serving.store.store import (
    Store,
)
from tests.tables import NOON, make_table


@pytest.fixture
def store(store_url):
    with Store(store_url) as opened:
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


def large(number: int, size: int) -> list[Exposure]:
    """Exposures of about 7 kB each that do not compress."""
    row = exposures(make_table(1))[0]
    noise = "".join(uuid.uuid5(uuid.NAMESPACE_OID, f"{number} {i}").hex for i in range(200))
    return [
        dataclasses.replace(row, request_id=f"n{number}-{i}", user_id=noise) for i in range(size)
    ]


def fill_up(store: Store, size: int) -> tuple[StoreFullError, int]:
    """What the store says once its disk is full, and how many batches it took before."""
    for number in range(5_000):
        try:
            store.record(large(number, size))
        except StoreFullError as error:
            return error, number
    raise AssertionError("the disk never filled")


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
    assert store.count()[1] == sum(len(row["slot_feedback"]) for row in left)


def test_nothing_to_export_and_bad_addresses(store, tmp_path):
    with pytest.raises(DataError, match="no exposure"):
        export_store(store, tmp_path / "out")


@pytest.mark.parametrize(
    ("url", "wanted", "says"),
    [
        ("sqlite:////absent/x.db", StoreError, "cannot be opened"),
        ("postgresql://me:secret@/x?host=/absent", StoreError, "cannot be opened"),
        ("sqlite://", ConfigError, "names no file"),
        ("mysql://me:secret@host/x", ConfigError, "remedy: sqlite or postgresql"),
        ("nothing", ConfigError, "not a URL"),
    ],
)
def test_bad_addresses(url, wanted, says):
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg")
    with pytest.raises(wanted, match=says) as found:
        Store(url)
    assert "secret" not in str(found.value)


def test_many_open_an_empty_store_at_once(store_url):
    opened, barrier = [], threading.Barrier(8)

    def work(number):
        barrier.wait()
        with Store(store_url) as store:
            store.describe(make_table(1).info)
            store.record(
                [dataclasses.replace(exposures(make_table(1))[0], request_id=f"w{number}")]
            )
            opened.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(opened) == list(range(8))
    with Store(store_url) as store:
        assert store.count() == (8, 0)
        assert store.info == make_table(1).info


def test_the_same_feedback_from_many_at_once_is_stored_once(store):
    table = make_table(8)
    store.record(exposures(table))
    batch, taken = events(table), []
    both = [batch, batch[::-1]] * 4  # opposite orders: a deadlock if locks were taken as they come

    def work(mine):
        taken.append(store.feedback(mine))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(each.stored for each in taken) == len(batch)
    assert sum(each.duplicates for each in taken) == len(batch) * 7
    assert store.count() == (8, len(batch))


def test_reading_while_others_write_sees_one_moment(store):
    rows = exposures(make_table(40))
    store.record(rows[::2])
    parts = store.rows(chunk=5)
    seen = [row["request_id"] for row in next(parts)]
    store.record(rows[1::2])
    store.purge(NOON + timedelta(hours=30))
    seen += [row["request_id"] for part in parts for row in part]
    assert seen == [row.request_id for row in rows[::2]]


def test_a_bodys_time_order_is_bytewise(store):
    row = exposures(make_table(1))[0]
    names = ["b", "B", "a-b", "ab", "_", "Z1"]
    store.record([dataclasses.replace(row, request_id=name) for name in names])
    got = [each["request_id"] for part in store.rows(chunk=2) for each in part]
    assert got == sorted(names)


_WRITER = """
    import sys
    from goalrank.serving import Exposure, Store
    from datetime import UTC, datetime
    store = Store(sys.argv[1])
    for i in range(100_000):
        store.record([Exposure(f"k{i}", 1, datetime.now(UTC), [1, 2], [0])])
        print(i, flush=True)
"""


def test_killed_under_load_every_acknowledged_exposure_is_there(tmp_path, store_url):
    url = store_url
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
