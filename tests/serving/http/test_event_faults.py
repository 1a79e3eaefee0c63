"""Faults of the store and of requests on the routes of events: said in words, nothing by half."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from goalrank.serving.state.event_log import EventLog
from goalrank.serving.store.database import open_engine
from goalrank.serving.store.store import Store
from tests.bundles.test_latest_rows import requests
from tests.serving.databases import fill, small_disk
from tests.serving.http.columns_server import Server, bundle_with_columns


def clicks(count: int, user: int = 1, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"type": "interaction", "user_id": user, "item_id": first + number, "values": {"click": 1}}
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return bundle_with_columns(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def server(folder, tmp_path):
    running = Server(folder, tmp_path)
    yield running
    running.stop()


@pytest.fixture
def disk():
    with small_disk(4) as found:
        if found is None:
            pytest.skip("a small disk needs root and the right to mount")
        yield found


def events_of(folder, user):
    return len(EventLog(open_engine(f"sqlite:///{folder / 's.db'}")).latest(user, 10))


def test_nobody_is_forgotten_by_half_on_a_full_disk(folder, disk):
    running = Server(folder, disk)
    running.send(*clicks(3))
    ask = {**requests(rows=1)[0], "user_id": 1}
    assert running.lists([ask])
    ballast = fill(disk)
    refused = running.client.delete("/v1/users/1")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_full")
    assert len(running.client.get("/v1/users/1").json()["history"]) == 3
    assert events_of(disk, 1) == 3
    ballast.unlink()
    gone = running.client.delete("/v1/users/1").json()
    assert gone == {"known": True, "events": 3, "exposures": 1}
    assert events_of(disk, 1) == 0
    assert running.client.get("/v1/users/1").json()["known"] is False
    running.stop()


def test_a_user_is_forgotten_though_no_snapshot_can_be_written(folder, disk, tmp_path, monkeypatch):
    running = Server(folder, tmp_path)
    state = disk / "state"
    running.keeper._folder = state
    running.send(*clicks(3), *clicks(2, user=2))
    running.keeper.save()
    assert state.exists()
    (disk / "ballast").write_bytes(b"")
    ballast = fill(disk)
    with ballast.open("ab", buffering=0) as file:  # the room of the snapshot, too
        forget = EventLog.forget

        def forget_and_fill(log, user):
            """Something else takes what is left of the disk meanwhile."""
            done = forget(log, user)
            with suppress(OSError):
                while True:
                    file.write(b"\0" * 512)
            return done

        monkeypatch.setattr(EventLog, "forget", forget_and_fill)
        gone = running.client.delete("/v1/users/1")
    assert (gone.status_code, gone.json().get("events")) == (200, 3)
    assert not state.exists()
    assert running.client.get("/v1/users/1").json()["known"] is False
    assert running.client.get("/v1/users/2").json()["known"] is True
    ballast.unlink()
    running.keeper.save()
    assert state.exists()
    running.stop()


def test_ready_names_events_that_do_not_fit(folder, disk):
    running = Server(folder, disk)
    running.send(*clicks(1))
    ballast = fill(disk, leave=100_000)  # enough for a list or two
    answer = running.client.post("/v1/events", json={"events": clicks(3000)})
    assert answer.status_code == 503
    ready = running.client.get("/health/ready")
    assert "events cannot be stored since" in ready.text
    assert "disk is full" in ready.text
    ballast.unlink()
    running.send(*clicks(3000))
    assert "events cannot be stored" not in running.client.get("/health/ready").text
    running.stop()


def test_ready_names_a_store_without_a_log(server):
    server.send(*clicks(1))
    for end in ("", "-wal", "-shm"):
        Path(f"{server.folder / 's.db'}{end}").unlink()
    Store(f"sqlite:///{server.folder / 's.db'}").close()  # as another program makes a new one
    answer = server.client.post("/v1/events", json={"events": clicks(2, first=5)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert "events cannot be stored since" in server.client.get("/health/ready").text


def test_a_removed_store_is_not_ready(server):
    for end in ("", "-wal", "-shm"):
        Path(f"{server.folder / 's.db'}{end}").unlink()
    answer = server.client.post("/v1/events", json={"events": clicks(2)})
    assert answer.status_code == 503
    assert "removed" in server.client.get("/health/ready").text


def rank_body(**more):
    row = requests(rows=1)[0]
    kept = ("user_id", "candidates", "candidate_score", "candidate_features")
    return {name: row[name] for name in kept} | more


@pytest.mark.parametrize("time", [1_700_000_000, 1_700_000_000_000, 1.7e9, "1700000000", True])
def test_a_time_is_written_out(server, time):
    bad = [
        ("/v1/rank", rank_body(time=time)),
        ("/v1/rank", rank_body(history=[1], history_time=[time])),
        ("/v1/recommend", {"user_id": 1, "time": time}),
        ("/v1/events", {"events": [{**clicks(1)[0], "time": time}]}),
        ("/v1/events", {"events": [
            {"type": "item", "item_id": 1, "columns": {"price": 1.0}, "time": time}
        ]}),
    ]  # fmt: skip
    for path, body in bad:
        answer = server.client.post(path, json=body)
        assert answer.status_code == 422, path
        assert "does not say its unit" in answer.json()["error"]["details"][0]["rule"]


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        ("/v1/rank", {"user_id": 1.5, "candidates": [1]}, "body.user_id"),
        ("/v1/rank", {"user_id": 1, "candidates": [1, None]}, "body.candidates.1"),
        ("/v1/rank", {"candidates": [1]}, "body.user_id"),
        ("/v1/rank", {"user_id": 1, "candidates": [1], "colour": 2}, "body.colour"),
        ("/v1/events", {"events": [{**clicks(1)[0], "item_id": []}]}, "body.events.0.item_id"),
        ("/v1/events", {"events": [{"type": "interaction"}]}, "body.events.0.user_id"),
        ("/v1/events", {"events": [{**clicks(1)[0], "values": {"click": "x"}}]},
         "body.events.0.values.click"),
        ("/v1/events", {"events": [{"type": "item", "item_id": 1, "columns": {"price": {}}}]},
         "body.events.0.columns.price"),
        ("/v1/events", {"events": [{"type": "bought"}]}, "body.events.0"),
    ],
)  # fmt: skip
def test_a_place_is_named_by_its_fields(server, path, body, where):
    details = server.client.post(path, json=body).json()["error"]["details"]
    assert details[0]["where"] == where
    assert len({each["where"] for each in details}) == len(details)
    assert not any(word in json.dumps(details) for word in ("constrained", "function-", "finite"))


def test_sums_say_what_they_are_of(server):
    server.send(*clicks(2))
    for place in ("users/1", "items/1"):
        known = server.client.get(f"/v1/{place}").json()
        assert known["sums"] == {"click": None, "long": None}  # no feature of this model needs them
        assert known["means"] == {"click": None, "long": None}
    assert server.client.get("/v1/users/1").json()["events"] is None
