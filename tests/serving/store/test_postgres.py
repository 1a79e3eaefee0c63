"""PostgreSQL at work: restarted and crashed under load, away for long, on a full disk."""

from __future__ import annotations

import time
import uuid

import pytest
import sqlalchemy as sa

from goalrank.errors import DuplicateRequestError, StoreError
from goalrank.serving.http.app import create_app
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.records import Event
from goalrank.serving.store.store import Store
from tests.bundles.kit import make_bundle
from tests.serving.databases import small_disk
from tests.serving.http.test_app import body
from tests.serving.live import Load, live
from tests.serving.store.test_store import exposures, fill_up, large
from tests.tables import make_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_bundle(reward=False).save(tmp_path_factory.mktemp("b") / "bundle")


def request_body():
    asked = body()
    return {name: asked[name] for name in ("candidates", "candidate_score", "candidate_features")}


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_restarted_under_load(postgres, folder, mode):
    url = postgres.new()
    service = Service(folder, Store(url), deadline=10.0)
    with live(create_app(service)) as address, Load(address, request_body()) as load:
        load.wait(50)
        postgres.stop(mode)
        down = time.monotonic()
        postgres.start()
        up = time.monotonic()
        load.wait(50)
        back = next(moment for moment, _ in load.answers if moment > up) - up
    with Store(url) as store:
        missing, kept = load.missing(store), store.count()[0]
    print(
        f"PostgreSQL stopped ({mode}) for {up - down:.1f} s under load: {len(load.answers)} "
        f"acknowledged, {len(missing)} missing, {kept} kept, refused {load.refused}; first answer "
        f"{back:.2f} s after the restart, longest pause {load.pause():.1f} s"
    )
    assert missing == []
    assert back < 5.0
    assert set(load.refused) <= {"store_unavailable"}


def test_away_for_long_refuses_at_once_and_goes_on_later(postgres):
    rows = exposures(make_table(6))
    with Store(postgres.new(), retry_seconds=0.5) as store:
        store.record(rows[:1])
        event = Event(rows[0].request_id, rows[0].candidates[rows[0].shown[0]], "click", 1.0)
        postgres.stop()
        try:
            for row in rows[1:4]:
                with pytest.raises(StoreError, match="refuses"):
                    store.record([row])
            began = time.monotonic()
            with pytest.raises(StoreError, match="refuses"):
                store.record([rows[4]])
            assert time.monotonic() - began < 0.4  # only the first waits
            with pytest.raises(StoreError, match="refuses"):
                store.feedback([event])
            assert not store.alive()
        finally:
            postgres.start()
        store.record(rows[5:])
        assert store.feedback([event]).stored == 1
        assert store.count() == (2, 1)
        assert store.alive()


def test_a_commit_whose_answer_was_lost_counts_once(postgres):
    import psycopg

    rows = exposures(make_table(6))
    lost: list[bool] = []

    def lose(connection):
        if not lost:
            lost.append(True)
            connection.connection.driver_connection.commit()
            raise sa.exc.OperationalError("commit", {}, psycopg.OperationalError("cut off"))

    with Store(postgres.new()) as store:
        sa.event.listen(store.engine, "commit", lose)
        store.record(rows)
        assert lost
        assert store.count() == (6, 0)
        with pytest.raises(DuplicateRequestError):
            store.record(rows[:1])


def test_a_full_disk_refuses_whole_batches(postgres):
    with small_disk(24) as disk:
        if disk is None:
            pytest.skip("a small disk needs root and the right to mount")
        place = disk / "space"
        place.mkdir()
        postgres.own(place)
        name = f"s{uuid.uuid4().hex}"
        postgres.ask(f"create tablespace {name} location '{place}'")
        url = postgres.new(f"tablespace {name}")
        size = 20
        with Store(url) as store:
            said, kept = fill_up(store, size)
            assert "disk is full" in str(said)
            there = {row["request_id"] for part in store.rows() for row in part}
            assert there == {row.request_id for n in range(kept) for row in large(n, size)}
            assert not store.alive()
        print(f"tablespace full after {kept} batches of {size}: {len(there)} kept, 0 missing")
        postgres.ask(f"drop database {url.split('@/')[1].split('?')[0]}")
        postgres.ask(f"drop tablespace {name}")
