"""Imported and served requests as one table: nothing lost, nothing twice, in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from goalrank.api.retraining.pool import SERVED, export_new, read_pool, served_folders
from goalrank.api.retraining.told import export_told
from goalrank.errors import DataError
from goalrank.requests import Requests
from goalrank.serving import Store
from tests.api.retraining.kit import DAY, WARM, day, featured, serve, warm

FIRST = datetime(2024, 1, 4, tzinfo=UTC)  # of day 0; the warm days come before


@pytest.fixture
def data(tmp_path):
    return warm(tmp_path / "data")


@pytest.fixture
def url(tmp_path) -> str:
    """Address of a store in which day 0 was served."""
    address = f"sqlite:///{tmp_path / 'store.db'}"
    serve(address, day(0))
    return address


@pytest.fixture
def store(url) -> Iterator[Store]:
    """That store, open."""
    with Store(url) as opened:
        yield opened


def ids(table: Requests) -> list[str]:
    return table.frame["request_id"].to_list()


def test_exports_follow_one_another(data, store, url):
    assert export_new(store, data) == DAY
    assert export_new(store, data) == 0
    serve(url, day(1))
    assert export_new(store, data) == DAY
    assert len(served_folders(data)) == 2
    pool = read_pool([data])
    assert len(pool) == WARM + 2 * DAY
    assert len(set(ids(pool.table))) == len(pool)
    assert (np.diff(pool.times) >= np.timedelta64(0)).all()
    served = pool.table.filter(pool.table.frame["time"] >= FIRST)
    for column in ("candidates", "shown", "feedback", "propensity", "history"):
        parts = [day(n).frame[column].to_list() for n in range(2)]
        assert served.frame[column].to_list() == [*parts[0], *parts[1]]


def test_exposures_wait_for_their_feedback(data, store):
    noon = FIRST + timedelta(hours=12)
    assert export_new(store, data, until=noon) == DAY // 2
    assert export_new(store, data, until=noon) == 0
    assert export_new(store, data, settle=timedelta(days=36_500)) == 0
    assert export_new(store, data) == DAY // 2


def test_a_killed_export_leaves_nothing_behind(data, store, monkeypatch):
    from goalrank.api.retraining import pool as module

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "put_in_place", killed)
        with pytest.raises(KeyboardInterrupt):
            export_new(store, data)
    assert len(read_pool([data])) == WARM
    assert export_new(store, data) == DAY
    assert [place.name for place in (data / SERVED).iterdir()] == [served_folders(data)[0].name]


def test_requests_in_two_parts_count_once(data, store):
    Requests.append(data / "test.parquet", day(0))
    export_new(store, data)
    pool = read_pool([data])
    assert len(pool) == WARM + DAY
    assert pool.said == (f"{DAY} requests are in two parts and counted once",)


def test_a_range_is_left_out(data, store):
    export_new(store, data)
    pool = read_pool([data], exclude=[(FIRST, FIRST + timedelta(hours=6))])
    assert len(pool) == WARM + DAY - DAY // 4
    assert pool.said[0].startswith(f"{DAY // 4} requests from 2024-01-04")


def test_the_base_may_be_left_out(data, store):
    with pytest.raises(DataError, match=r"nothing that was served; remedy.*--data"):
        read_pool([data], base=False)
    export_new(store, data)
    assert len(read_pool([data], base=False)) == DAY


def test_equal_data_have_equal_digests(data, store, url):
    export_new(store, data)
    pool, again = read_pool([data]), read_pool([data])
    assert pool.part(0, 100)[1] == again.part(0, 100)[1]
    assert pool.part(0, 100)[1].digest != pool.part(0, 101)[1].digest
    before = pool.part(0, WARM)[1]
    serve(url, day(1))
    export_new(store, data)
    assert read_pool([data]).part(0, WARM)[1] == before  # new files hold none of these
    Requests.append(data / "train.parquet", day(2))
    assert read_pool([data]).part(0, WARM)[1] != before


def test_parts_that_cannot_be_one_table(data, store):
    export_new(store, data)
    table = Requests.read(data / "train.parquet")
    other = Requests(table.frame, items=table.items, info=table.info.replace(protocol="retrieved"))
    other.write(data / "train.parquet")
    with pytest.raises(DataError, match="protocol is 'exposed', in 'train' 'retrieved'"):
        read_pool([data])
    scored = table.frame.drop("candidate_score")
    Requests(scored, items=table.items, info=table.info).write(data / "train.parquet")
    assert "is left out" in read_pool([data]).said[0]
    assert "candidate_score" not in read_pool([data]).table.frame.columns


def test_what_fits_no_table_is_not_exported(data, store, url):
    """Else every later retraining would stumble over it."""
    store.describe(store.info.replace(target=None))
    with pytest.raises(DataError, match=r"'what the server stored' cannot be one table.*target"):
        export_new(store, data)

    shop = f"{url}-shop"
    serve(shop, featured(day(0), *(f"feature_{i}" for i in range(6))))
    listed = "candidate_features: feature_0, feature_1, feature_2, feature_3 and 2 others not in"
    with (
        Store(shop) as other,
        pytest.raises(DataError, match=rf"{listed} 'train'; remedy.*--store"),
    ):
        export_new(other, data)
    assert list((data / SERVED).iterdir()) == []
    assert export_new(store, data, base=False) == DAY


def vectors(table: Requests, part: slice, at: int) -> list[list[float | None]]:
    """Values of one feature, per request."""
    return [[v[at] for v in row] for row in table.frame["candidate_features"].to_list()[part]]


def test_lists_of_models_with_other_features_are_one_table(tmp_path):
    """A new feature, or one that went, stopped every retraining that came after it."""
    data, url = tmp_path / "data", f"sqlite:///{tmp_path / 's.db'}"
    featured(day(-1), "price", "age").write(data / "train.parquet")
    alike, newer = featured(day(0), "price", "age"), featured(day(1), "rating", "price")
    serve(url, alike)
    with Store(url) as store:
        assert export_new(store, data) == DAY
    serve(url, newer)
    serve(url, featured(day(2), "width", "height"))  # of another shop
    with Store(url) as store:
        assert export_new(store, data) == 2 * DAY
    pool = read_pool([data])
    assert pool.table.info.candidate_features == ("price", "age")
    assert len(pool) == 3 * DAY
    first, second = slice(DAY, 2 * DAY), slice(2 * DAY, 3 * DAY)
    for at in range(2):
        assert vectors(pool.table, first, at) == vectors(alike, slice(None), at)
    assert vectors(pool.table, second, 0) == vectors(newer, slice(None), 1)
    assert {x for row in vectors(pool.table, second, 1) for x in row} == {None}
    said = "\n".join(pool.said)
    assert (
        "candidate_features: rating, width, height not in 'train'; age of 'train' lacking" in said
    )
    assert f"{DAY} lists have none of the features of 'train', as of a model for other data" in said


def test_features_in_another_order_are_the_same(tmp_path):
    data, url = tmp_path / "data", f"sqlite:///{tmp_path / 's.db'}"
    featured(day(-1), "price", "age").write(data / "train.parquet")
    turned = featured(day(0), "age", "price")
    serve(url, turned)
    with Store(url) as store:
        export_new(store, data)
    pool = read_pool([data])
    for ours, theirs in ((0, 1), (1, 0)):
        assert vectors(pool.table, slice(DAY, None), ours) == vectors(turned, slice(None), theirs)
    assert pool.said == ()


@pytest.mark.parametrize("served", [True, False])
def test_feedback_kinds_of_other_models_are_left_out(data, store, url, served):
    other = day(1)
    if served:  # else no list of the range knows the kind: the export could not be read
        likes = other.frame["feedback"].struct.field("click").alias("like")
        frame = other.frame.with_columns(likes.to_frame().to_struct("feedback"))
        info = other.info.replace(feedback_kinds=("like", "click"))
        serve(url, Requests(frame, items=other.items, info=info))
    store.describe(store.info.replace(feedback_kinds=("like", "click")))
    assert export_new(store, data) == DAY * (1 + served)
    pool = read_pool([data])
    assert pool.table.info.feedback_kinds == ("click",)
    assert pool.table.frame["feedback"].struct.fields == ["click"]
    clicks = pool.table.frame["feedback"].struct.field("click").to_list()
    assert clicks[WARM : WARM + DAY] == day(0).frame["feedback"].struct.field("click").to_list()
    assert any("feedback kinds: like not in 'train'" in text for text in pool.said) == served


def test_served_requests_must_have_the_score_that_training_had(data, tmp_path):
    url = f"sqlite:///{tmp_path / 'bare.db'}"
    table = day(0)
    bare = table.frame.with_columns(candidate_score=None)
    serve(url, Requests(bare.drop("candidate_score"), items=table.items, info=table.info))
    with Store(url) as opened:
        export_new(opened, data)
    with pytest.raises(DataError, match="lack the retriever's score, which 'train' has"):
        read_pool([data])


def test_an_export_waits_for_another_of_the_same_data(data, store, url, monkeypatch):
    """Retrainings of two registries took each other's draft away."""
    from goalrank.api.retraining import pool as module

    counts: list[int] = []

    def again() -> None:
        with Store(url) as opened:
            counts.append(export_new(opened, data))

    def meanwhile(*given: Any, **named: Any) -> None:
        monkeypatch.setattr(module, "export_told", export_told)
        other = threading.Thread(target=again)
        other.start()
        other.join(0.5)
        assert other.is_alive()  # it waits
        export_told(*given, **named)
        waiting.append(other)

    waiting: list[threading.Thread] = []
    monkeypatch.setattr(module, "export_told", meanwhile)
    assert export_new(store, data) == DAY
    waiting[0].join()
    assert counts == [0]
    assert len(read_pool([data])) == WARM + DAY
