"""Item and user events: what is said of items and users ranks as a side table that has it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goalrank.bundles import Bundle, Predictor
from goalrank.serving.state.event_log import EventLog
from goalrank.serving.state.keeper import StateKeeper
from goalrank.serving.store.database import open_engine
from tests.bundles.test_latest_rows import ITEMS, USERS, requests, with_cells
from tests.serving.http.columns_server import Server, bundle_with_columns

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return bundle_with_columns(tmp_path_factory.mktemp("told"))


@pytest.fixture
def server(folder, tmp_path):
    running = Server(folder, tmp_path)
    yield running
    running.stop()


def item(own: int, hours: float = 0.0, **more: Any) -> dict[str, Any]:
    return event("item", own, hours, **more)


def event(
    what: str, own: int, hours: float = 0.0, event_id: str | None = None, **columns: Any
) -> dict[str, Any]:
    made: dict[str, Any] = {"type": what, f"{what}_id": own, "columns": columns}
    made |= {} if event_id is None else {"event_id": event_id}
    return made | {"time": (START + timedelta(hours=hours)).isoformat()}


def library(folder, items=None, users=None):
    """Lists of the library with side tables that have these cells."""
    predictor = Predictor(
        Bundle.load(folder),
        items=None if items is None else with_cells(ITEMS, items, "item_id"),
        users=None if users is None else with_cells(USERS, users, "user_id"),
    )
    return [(each.items, each.log_prob) for each in predictor.rank(requests())]


SAID: dict[int, dict[str, Any]] = {
    3: {"genre": "g1", "price": 9.5},
    1000: {"genre": "g3", "price": 1.0, "new": True, "tags": ["t0", "t2"], "vector": [1.0, 2, -3]},
    1001: {"vector": [0.5, -2.0, 0.25]},
}
AGES: dict[int, dict[str, Any]] = {0: {"age": 70}, 12: {"age": 3}, 13: {"age": 40}}


def all_said() -> list[dict[str, Any]]:
    items = [item(own, **cells) for own, cells in SAID.items()]
    return [*items, *(event("user", own, **cells) for own, cells in AGES.items())]


def test_lists_are_those_of_the_library_with_these_rows(server, folder):
    assert server.lists() == library(folder)
    assert server.send(*all_said())["stored"] == 6
    assert server.lists() == library(folder, SAID, AGES)
    assert library(folder) != library(folder, SAID, AGES)


def test_the_latest_by_its_own_time_counts(server, folder):
    server.send(item(3, 5, price=7.0), item(3, 2, price=2.0, genre="g2"))
    server.send(item(3, 4, price=4.0), item(3, 3, genre="g1"))
    assert server.client.get("/v1/items/3").json()["columns"] == {"price": 7.0, "genre": "g1"}
    assert server.lists() == library(folder, {3: {"price": 7.0, "genre": "g1"}})


def test_sending_again_changes_nothing(server):
    first = item(3, price=7.0, event_id="a")
    assert server.send(first, item(4, price=1.0)) == {"stored": 2, "duplicates": 0, "position": 2}
    assert server.send(first, item(4, price=1.0))["duplicates"] == 2
    later = {
        name: value for name, value in item(5, new=True, event_id="b").items() if name != "time"
    }
    assert [server.send(later)["stored"] for _ in range(2)] == [1, 0]
    answer = server.send(item(3, price=8.0, event_id="a"), status=409)
    assert answer["error"]["code"] == "duplicate_request"
    assert server.client.get("/v1/items/3").json()["columns"] == {"price": 7.0}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (item(3, colour="red"), "items have no column 'colour'; this model was trained with genre"),
        (item(3, price="dear"), 'columns.price of items is "dear", but was a number'),
        (item(3, genre=["g1", 2.0]), "breaks rules"),
        (item(3, genre=4), "columns.genre of items is 4.0, but was a string in training"),
        (item(3, tags="t1"), 'columns.tags of items is "t1", but was a list of strings'),
        (item(3, vector=[1.0, 2.0]), "but was a list of 3 numbers in training"),
        (item(3, vector=["a", "b", "c"]), "but was a list of 3 numbers in training"),
        (item(3, price=None), "breaks rules"),
        (item(3), "breaks rules"),
        (event("user", 3, price=4.0), "users have no column 'price'"),
        ({**item(3, price=1.0), "item_id": "3"}, "items: id '3' is a str"),
        ({**item(3, price=1.0), "time": "2150-01-01T00:00:00Z"}, "ahead of this server"),
        ({**item(3, price=1.0), "user_id": 3}, "breaks rules"),
    ],
)
def test_bad_columns_are_refused_whole(server, bad, said):
    assert said in server.send(item(4, price=1.0), bad, status=422)["error"]["message"]
    assert server.keeper.position == 0


def test_titles_are_kept_for_display(server, folder):
    server.send(item(3, title="A new name", url="https://example.com/3"))
    shown = server.client.get("/v1/items/3").json()
    assert shown["columns"] == {"title": "A new name", "url": "https://example.com/3"}
    assert server.lists() == library(folder)


def test_a_restart_knows_what_was_said(server, folder):
    server.send(*all_said()[:3])
    server.keeper.save()
    shutil.copytree(server.folder / "state", server.folder / "kept")
    server.send(*all_said()[3:])
    expected = library(folder, SAID, AGES)
    server.stop()
    shutil.rmtree(server.folder / "state")
    shutil.move(server.folder / "kept", server.folder / "state")  # as if killed before the end
    server.start()
    assert server.keeper.replayed == 3
    assert server.lists() == expected
    server.stop()
    (server.folder / "state" / "items-columns.parquet").write_bytes(b"damaged")
    server.start()
    assert server.keeper.replayed == 6
    assert server.lists() == expected


def test_other_processes_follow(server):
    log = EventLog(open_engine(f"sqlite:///{server.folder / 's.db'}"))
    other = StateKeeper(server.service.info, None, log, server.folder / "other")
    server.send(*all_said())
    other.follow(now=True)
    assert other.latest("items", [3, 1000, 5]) == {3: SAID[3], 1000: SAID[1000]}
    server.client.delete("/v1/users/12")
    other.follow(now=True)
    assert other.latest("users", [0, 12]) == {0: AGES[0]}
    other.close()


def test_what_is_said_of_a_user_is_forgotten(server, folder):
    server.send(*all_said())
    assert server.client.get("/v1/users/12").json()["columns"] == AGES[12]
    gone = server.client.delete("/v1/users/12").json()
    assert gone == {"known": True, "events": 1, "exposures": 0}
    left = {own: cells for own, cells in AGES.items() if own != 12}
    for _ in range(2):
        assert server.client.get("/v1/users/12").json()["columns"] == {}
        assert server.lists() == library(folder, SAID, left)
        server.stop()
        server.start()
    shutil.rmtree(server.folder / "state")
    server.stop()
    shutil.rmtree(server.folder / "state")
    server.start()
    assert server.client.get("/v1/users/12").json()["known"] is False


def test_events_of_users_and_items_stand_beside_interactions(server):
    seen = {"type": "interaction", "user_id": 12, "item_id": 1000, "values": {"click": 1}}
    server.send(seen, *all_said())
    known = server.client.get("/v1/users/12").json()
    assert (known["history"], known["columns"]) == ([1000], AGES[12])
    assert server.client.get("/v1/items/1000").json()["columns"] == SAID[1000]
    assert server.client.get("/v1/items/1001").json()["known"] is True
    assert len(server.keeper.latest_events(12, 10)) == 1
    text = server.client.get("/metrics").text
    assert 'goalrank_state_described{table="items"} 3.0' in text
    assert 'goalrank_state_described{table="users"} 3.0' in text


def test_a_bundle_put_in_place_knows_what_was_said(folder, tmp_path):
    run = shutil.copytree(folder, tmp_path / "bundle")
    server = Server(run, tmp_path)
    server.send(*all_said())
    shutil.rmtree(run)
    shutil.copytree(folder, run)
    (run / "manifest.json").touch()  # a copy keeps the time, and may get the number of the old file
    assert server.service.reload() == ["default"]
    assert server.lists() == library(folder, SAID, AGES)
    server.stop()
