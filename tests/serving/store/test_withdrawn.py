"""A write that was answered as failed is not found later, and its request can be sent again."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from goalrank.errors import StoreError
from goalrank.serving.http.app import create_app
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.store import Store
from tests.bundles.kit import make_bundle
from tests.serving.http.test_app import body, code
from tests.serving.store.test_store import exposures
from tests.tables import make_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_bundle(reward=False).save(tmp_path_factory.mktemp("b") / "bundle")


@contextmanager
def stalled(url: str) -> Iterator[None]:
    """Another program holds the store's locks."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield
            other.execute("ROLLBACK")
        return
    engine = sa.create_engine(url)
    with engine.begin() as other:
        other.execute(sa.text("LOCK TABLE exposures IN ACCESS EXCLUSIVE MODE"))
        yield
    engine.dispose()


def settle(store: Store) -> None:
    """Wait until all that was handed to the store before is decided."""
    last = exposures(make_table(1, seed=9))[0]
    store.record([last])


@pytest.mark.parametrize("policy", ["fail", "serve-unlogged"])
def test_what_a_stalled_store_did_not_confirm_is_not_stored(store_url, folder, policy):
    store = Store(store_url)
    service = Service(folder, store, deadline=0.3, on_store_failure=policy)
    service.store_timeout = 0.3
    with TestClient(create_app(service)) as client:
        asked = [body(row) for row in range(3)]
        with stalled(store_url):
            began = time.monotonic()
            answers = [client.post("/v1/rank", json=each) for each in asked]
            seconds = time.monotonic() - began
        settle(store)
        there = {row["request_id"] for part in store.rows() for row in part}
        print(f"stalled store ({policy}): 3 answered in {seconds:.1f} s, {len(there) - 1} stored")
        assert seconds < 9.0  # it would be 10 per request
        if policy == "fail":
            assert [code(each) for each in answers] == [(503, "store_unavailable")] * 3
        else:
            assert [each.json()["logged"] for each in answers] == [False] * 3
        assert there.isdisjoint(each["request_id"] for each in asked)
        again = [client.post("/v1/rank", json=each) for each in asked]
        assert [each.json()["logged"] for each in again] == [True] * 3


def test_a_write_that_is_withdrawn_while_it_is_committed_is_deleted_again(store_url):
    rows = exposures(make_table(4))
    with Store(store_url) as store:
        store.record(rows[:1])
        reached, go_on = threading.Event(), threading.Event()

        def slowly(_: object) -> None:
            reached.set()
            go_on.wait(10)

        sa.event.listen(store.engine, "commit", slowly)
        write = store.submit(rows[1:3])
        assert reached.wait(10)
        assert write.withdraw()
        go_on.set()
        write.done.result(10)
        store.record(rows[3:])
        assert store.count() == (2, 0)
        store.record(rows[1:3])  # as a caller does who was told to send them again
        assert store.count() == (4, 0)


def test_a_commit_whose_answer_never_came_leaves_nothing(postgres):
    import psycopg

    rows = exposures(make_table(3))
    with Store(postgres.new(), retry_seconds=0.0) as store:
        store.record(rows[:1])

        def lose(connection):
            sa.event.remove(store.engine, "commit", lose)
            connection.connection.driver_connection.commit()
            raise sa.exc.OperationalError("commit", {}, psycopg.OperationalError("cut off"))

        sa.event.listen(store.engine, "commit", lose)
        with pytest.raises(StoreError, match="nothing was stored"):
            store.record(rows[1:])
        store.record(rows[1:])
        assert store.count() == (3, 0)


def test_others_in_the_same_commit_are_stored(tmp_path):
    rows = exposures(make_table(6))
    url = f"sqlite:///{tmp_path / 's.db'}"
    with Store(url) as store:
        with stalled(url):
            first = store.submit(rows[:1])  # the writer waits for the lock with it
            time.sleep(0.1)
            others = [store.submit([row]) for row in rows[1:]]
            assert first.withdraw()
            assert others[2].withdraw()
        kept = [each for i, each in enumerate(others) if i != 2]
        for each in kept:
            each.done.result(10)
        there = {row["request_id"] for part in store.rows() for row in part}
        assert there == {rows[i].request_id for i in (1, 2, 4, 5)}
        assert not kept[0].withdraw()
