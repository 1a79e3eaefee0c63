"""A full disk, slow and broken callers: refused with a code, and nothing is kept by half."""

from __future__ import annotations

import json
import socket
import sqlite3
import time as clock
from contextlib import closing

import httpx
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from goalrank.serving.http import slow_clients as slow
from goalrank.serving.http.access import Keys
from goalrank.serving.http.app import create_app
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.store import Store
from tests.bundles.kit import make_bundle
from tests.serving.databases import fill, small_disk
from tests.serving.http.test_app import body, code
from tests.serving.live import live
from tests.serving.store.test_store import fill_up, large

JSON = {"content-type": "application/json"}
INVALID = (422, "invalid_request")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_bundle(reward=False).save(tmp_path_factory.mktemp("b") / "bundle")


class Small:
    """A store whose disk can be filled and freed."""

    def __init__(self, path, disk=None):
        self.path, self.disk, self.pages = path, disk, None
        self.store = Store(f"sqlite:///{path}")
        sa.event.listen(self.store.engine, "begin", self._limit)

    def _limit(self, connection):
        if self.disk is None:
            connection.exec_driver_sql(f"PRAGMA max_page_count={self.pages or 2**30}")

    def full(self, leave):
        if self.disk is not None:
            fill(self.disk, leave)
        else:
            with sqlite3.connect(self.path) as plain:
                self.pages = plain.execute("PRAGMA page_count").fetchone()[0] + leave // 4096

    def freed(self):
        self.pages = None
        if self.disk is not None:
            (self.disk / "ballast").unlink()


@pytest.fixture(params=["a disk of 4 MiB", "a limit of pages"])
def small(request, tmp_path):
    if request.param == "a limit of pages":
        yield Small(tmp_path / "s.db")
        return
    with small_disk(4) as disk:
        if disk is None:
            pytest.skip("a small disk needs root and the right to mount")
        yield Small(disk / "s.db", disk)


def ask(client, number, rows=1):
    requests = [body(1, request_id=f"n{number}-{i}") for i in range(rows)]
    return client.post("/v1/rank:batch", json={"requests": requests})


@pytest.mark.parametrize("policy", ["fail", "serve-unlogged"])
def test_disk_full(small, folder, policy):
    service = Service(folder, small.store, deadline=10.0, on_store_failure=policy)
    kept, unlogged, refused, rows = [], 0, 0, 7
    with TestClient(create_app(service)) as client:
        assert ask(client, 0, rows).status_code == 200
        small.full(leave=300_000)
        kept.append(0)
        for number in range(1, 400):
            answer = ask(client, number, rows)
            if answer.status_code == 503:
                assert code(answer) == (503, "store_full")
                refused += 1
            else:
                logged = {each["logged"] for each in answer.json()["lists"]}
                assert len(logged) == 1  # a batch is kept whole or not at all
                unlogged += not logged.pop()
                if answer.json()["lists"][0]["logged"]:
                    kept.append(number)
            if refused + unlogged > 5:
                break
        assert refused + unlogged > 5
        assert (refused > 0) == (policy == "fail")
        metrics = client.get("/metrics").text
        assert f"goalrank_unlogged_total {(refused + unlogged) * rows}.0" in metrics
        assert (
            f'goalrank_store_failures_total{{code="store_full"}} {refused + unlogged}.0' in metrics
        )
        small.freed()
        again = ask(client, 1_000, rows)
        assert again.status_code == 200
        assert again.json()["lists"][0]["logged"]
        kept.append(1_000)
    with sqlite3.connect(small.path) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        there = {name for (name,) in plain.execute("SELECT request_id FROM exposures")}
    print(
        f"disk full ({policy}): {len(kept) * rows} acknowledged as logged, {len(there)} in the "
        f"store, {unlogged * rows} served unlogged, {refused * rows} refused; integrity ok"
    )
    assert there == {f"n{number}-{i}" for number in kept for i in range(rows)}


def test_a_log_that_a_full_disk_has_no_room_for_is_no_damage(folder):
    """A server took its store for damaged, and advised a backup in place of what the log held."""
    with small_disk(4) as disk:
        if disk is None:
            pytest.skip("a small disk needs root and the right to mount")
        small = Small(disk / "s.db", disk)
        service = Service(folder, small.store, deadline=10.0)
        with TestClient(create_app(service)) as client:
            for number in range(20):
                assert ask(client, number, 7).status_code == 200
            small.full(leave=0)
            alone = f"file:{small.path}?mode=ro&immutable=1"
            with (
                closing(sqlite3.connect(small.path)) as plain,
                closing(sqlite3.connect(alone, uri=True)) as file,
            ):
                with pytest.raises(sqlite3.OperationalError, match="disk is full"):
                    plain.execute("PRAGMA wal_checkpoint(PASSIVE)")
                with pytest.raises(sqlite3.DatabaseError, match="malformed"):
                    file.execute("SELECT count(*) FROM exposures")
            small.store.probe(fresh=1e6)
            for number in range(20, 400):  # what is free inside the log goes
                if (answer := ask(client, number, 7)).status_code != 200:
                    break
            assert code(answer) == (503, "store_full")
            small.freed()
            assert ask(client, 1_000, 7).status_code == 200


def test_feedback_on_a_full_disk(small, folder):
    service = Service(folder, small.store, deadline=10.0, on_store_failure="serve-unlogged")
    with TestClient(create_app(service)) as client:
        lists = ask(client, 0, 40).json()["lists"]
        small.full(leave=0)
        for number in range(1, 400):  # what was free inside the file goes too
            if not ask(client, number, 7).json()["lists"][0]["logged"]:
                break
        events = [
            {"request_id": each["request_id"], "item": item, "kind": kind}
            for each in lists for item in each["items"] for kind in ("click", "long")
        ]  # fmt: skip
        answer = client.post("/v1/feedback", json={"events": events})
        assert code(answer) == (503, "store_full")
        assert small.store.count()[1] == 0
        small.freed()
        assert client.post("/v1/feedback", json={"events": events}).json()["stored"] == len(events)


def test_the_library_says_full(small):
    small.full(leave=50_000)
    said, kept = fill_up(small.store, 10)
    assert "disk is full" in str(said)
    assert small.store.count()[0] == 10 * kept
    small.freed()
    small.store.record(large(kept + 1, 10))
    small.store.close()


@pytest.fixture
def service(folder, tmp_path):
    return Service(folder, Store(f"sqlite:///{tmp_path / 's.db'}"), deadline=10.0)


@pytest.fixture
def client(service):
    with TestClient(create_app(service), raise_server_exceptions=False) as opened:
        yield opened


def test_a_million_candidates(service):
    many = json.dumps({"user_id": 1, "candidates": list(range(10**6))})
    with TestClient(create_app(service)) as client:
        assert code(client.post("/v1/rank", content=many, headers=JSON)) == (413, "too_large")
    with TestClient(create_app(service, max_body=2**25)) as client:
        assert code(client.post("/v1/rank", content=many, headers=JSON)) == INVALID
    with Store(str(service.store.engine.url)) as store:
        assert store.count() == (0, 0)


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "1e999", "1e39", '"1"', "true", "null"]
)
@pytest.mark.parametrize("name", ["candidate_score", "history_feedback", "candidate_features"])
def test_numbers_that_are_none(client, service, name, value):
    asked = body(1, history=[1, 2], history_feedback=None, history_time=None)
    count = len(asked["history" if name == "history_feedback" else "candidates"])
    inner = f"[{value}, 1]" if name == "candidate_features" else value
    asked = json.dumps(asked | {name: "HERE"})
    content = asked.replace('"HERE"', "[" + ", ".join([inner] * count) + "]")
    assert code(client.post("/v1/rank", content=content, headers=JSON)) == INVALID
    assert service.store.count() == (0, 0)


BAD_EVENTS = {
    "not a number": ('{"value": NaN}', INVALID),
    "an unknown field": ('{"colour": "red"}', INVALID),
    "a kind of no name": ('{"kind": ""}', INVALID),
    "an unknown kind": ('{"kind": "applause"}', INVALID),
    "an item that was not shown": ('{"item": 999}', (404, "unknown_request")),
    "an item of another type": ('{"item": "3"}', (404, "unknown_request")),
    "a huge item": ('{"item": 1180591620717411303424}', INVALID),
    "true for an item": ('{"item": true}', INVALID),
    "an unknown request": ('{"request_id": "nobody"}', (404, "unknown_request")),
    "a request id with a zero byte": ('{"request_id": "a\\u0000"}', INVALID),
}


@pytest.mark.parametrize("name", BAD_EVENTS)
def test_feedback_with_one_bad_event_stores_nothing(client, service, name):
    answer = client.post("/v1/rank", json=body()).json()
    good = {"request_id": answer["request_id"], "item": answer["items"][0], "kind": "click"}
    changed, wanted = BAD_EVENTS[name]
    content = json.dumps({"events": [good, good | json.loads(changed)]})
    assert code(client.post("/v1/feedback", content=content, headers=JSON)) == wanted
    assert service.store.count() == (1, 0)


@pytest.mark.parametrize("events", [[], None, "all", [1], {"a": 1}])
def test_feedback_without_events(client, service, events):
    assert code(client.post("/v1/feedback", json={"events": events})) == INVALID


def test_replayed_feedback_is_stored_once(client, service):
    answer = client.post("/v1/rank", json=body()).json()
    event = {"request_id": answer["request_id"], "item": answer["items"][0], "kind": "click"}
    counts = [client.post("/v1/feedback", json={"events": [event]}).json() for _ in range(5)]
    assert [each["stored"] for each in counts] == [1, 0, 0, 0, 0]
    assert [each["duplicates"] for each in counts] == [0, 1, 1, 1, 1]
    assert service.store.count() == (1, 1)


def test_a_batch_with_a_used_request_id_stores_nothing(client, service):
    duplicate = (409, "duplicate_request")
    assert client.post("/v1/rank", json=body(0, request_id="used")).status_code == 200
    for ids in (["new", "used"], ["twice", "twice"]):
        asked = {"requests": [body(1, request_id=name) for name in ids]}
        assert code(client.post("/v1/rank:batch", json=asked)) == duplicate
    assert service.store.count() == (1, 0)


@pytest.mark.parametrize("route", ["rank", "rank:batch", "feedback"])
@pytest.mark.parametrize(
    "header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"},
               {"Authorization": b"Bearer \xff\xfe"}, {"Authorization": "Bearer"}],
)  # fmt: skip
def test_wrong_keys(service, route, header):
    with TestClient(create_app(service, Keys("shop:0123456789abcdef"))) as client:
        answer = client.post(f"/v1/{route}", json=body(), headers=header)
        assert code(answer) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert service.store.count() == (0, 0)


def test_odd_content(client, service):
    text = json.dumps(body())
    for content, kind, wanted in (
        (text, "text/plain", INVALID),
        (text[:-5], "application/json", (400, "malformed_json")),
        ("", "application/json", INVALID),
        ("null", "application/json", INVALID),
        ("[]", "application/json", INVALID),
        ('{"user_id": 1, "user_id": 2}', "application/json", INVALID),
    ):
        answer = client.post("/v1/rank", content=content, headers={"content-type": kind})
        assert code(answer) == wanted, content[:30]
    assert service.store.count() == (0, 0)


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /v1/rank HT",
        b"POST /v1/rank HTTP/1.1\r\nhost: a\r\ncontent-length: 99\r\n",
        b"POST /v1/rank HTTP/1.1\r\nhost: a\r\ncontent-length: 99\r\n\r\n{",
        b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\nPAUSEGET /health/live HTTP/1.1\r\nhost",
    ],
)
def test_slow_callers_are_let_go(service, monkeypatch, sent):
    monkeypatch.setattr(slow, "TIMEOUT", 0.4)
    protocol = "goalrank.serving.http.slow_clients:RequestTimeoutProtocol"
    app = create_app(service, body_timeout=0.4)
    with live(app, http=protocol) as url, socket.socket() as caller:
        caller.settimeout(10)
        caller.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        began = clock.monotonic()
        for part in sent.split(b"PAUSE"):
            caller.sendall(part)
            clock.sleep(0.1)
        got = b""
        while part := caller.recv(4096):
            got += part
        assert clock.monotonic() - began < 5.0
        assert b" 408 " in got
        assert b'"code": "timeout"' in got
        assert httpx.get(f"{url}/health/live").status_code == 200
        assert service.store.count() == (0, 0)


@pytest.mark.parametrize("time", ["9998-01-01T00:00:00Z", "2200-01-01T00:00:00Z"])
def test_a_time_that_would_sort_last_for_ever_is_refused(client, service, time):
    asked = body(1, time=time, history=[], history_feedback=None, history_time=None)
    answer = client.post("/v1/rank", json=asked)
    assert code(answer) == INVALID
    assert "at most a day ahead" in answer.text
    assert service.store.count() == (0, 0)


def test_counts_of_feedback_add_up(client, service):
    answer = client.post("/v1/rank", json=body()).json()
    event = {"request_id": answer["request_id"], "item": answer["items"][0], "kind": "click"}
    other = event | {"item": answer["items"][1]}
    events = [event | {"value": value} for value in (1, 0, 0, 1)] + [other]
    counts = client.post("/v1/feedback", json={"events": events}).json()
    assert counts == {"stored": 2, "duplicates": 1, "replaced": 2}
    assert service.store.count() == (1, 2)
    again = client.post("/v1/feedback", json={"events": events}).json()
    assert sum(again.values()) == len(events)
    assert again["stored"] == 0
