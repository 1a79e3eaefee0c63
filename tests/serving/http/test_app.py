"""The service over HTTP: right lists, nothing stored by half, every refusal a code."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time as clock
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from goalrank.errors import StoreError
from goalrank.requests import Requests
from goalrank.serving.http.access import Keys
from goalrank.serving.http.app import create_app
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.store import Store
from tests.bundles.kit import make_bundle
from tests.tables import make_table

KEY = "0123456789abcdef"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_bundle(reward=False).save(tmp_path_factory.mktemp("b") / "bundle")


@pytest.fixture
def service(folder, tmp_path):
    return Service(folder, Store(f"sqlite:///{tmp_path / 's.db'}"), deadline=10.0)


@pytest.fixture
def client(service):
    with TestClient(create_app(service), raise_server_exceptions=False) as opened:
        yield opened


def body(row: int = 0, **changes):
    found = make_table(20, seed=3).frame.row(row, named=True)
    names = [
        "user_id",
        "history",
        "history_feedback",
        "candidates",
        "candidate_score",
        "candidate_features",
    ]
    out = {name: found[name] for name in names} | {"request_id": found["request_id"]}
    times = [t.isoformat() for t in found["history_time"]]
    return out | {"time": found["time"].isoformat(), "history_time": times} | changes


def code(response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def plain_requests() -> Requests:
    """The requests of `body`, which bring no features of items or users."""
    table = make_table(20, seed=3)
    return Requests(table.frame, info=table.info)


def test_the_served_list_is_the_librarys(client, folder):
    wanted = make_bundle(reward=False).rank(plain_requests())
    for row in range(20):
        got = client.post("/v1/rank", json=body(row)).json()
        assert got["items"] == wanted["items"][row].to_list()
        assert abs(got["log_prob"] - wanted["log_prob"][row]) < 1e-4
        assert got["logged"]
        assert not got["degraded"]


def test_a_batch_gives_the_same_lists(client):
    answer = client.post("/v1/rank:batch", json={"requests": [body(r) for r in range(20)]})
    wanted = make_bundle(reward=False).rank(plain_requests())
    assert [each["items"] for each in answer.json()["lists"]] == wanted["items"].to_list()


def test_given_ids_are_kept_and_made_ones_sort_by_time(client):
    made = [client.post("/v1/rank", json=body(request_id=None)).json()["request_id"] for _ in "abc"]
    assert made == sorted(set(made))
    two = [body(request_id=None), body(request_id="mine")]
    lists = client.post("/v1/rank:batch", json={"requests": two}).json()["lists"]
    assert made[-1] < lists[0]["request_id"]
    assert lists[1]["request_id"] == "mine"


def test_exposure_then_feedback(client, service):
    answer = client.post("/v1/rank", json=body()).json()
    event = {"request_id": answer["request_id"], "item": answer["items"][0], "kind": "click"}
    wanted = {"stored": 1, "duplicates": 0, "replaced": 0}
    assert client.post("/v1/feedback", json={"events": [event]}).json() == wanted
    wanted = {"stored": 0, "duplicates": 1, "replaced": 0}
    assert client.post("/v1/feedback", json={"events": [event]}).json() == wanted
    [[row]] = list(service.store.rows())
    assert [row["candidates"][at] for at in row["shown"]] == answer["items"]
    assert row["slot_feedback"] == {(0, "click"): 1.0}
    assert row["propensity"] == 1.0


def test_rules_of_a_request(client):
    plain = client.post("/v1/rank", json=body(1)).json()["items"]
    rules = {"blocked": plain[:1], "pinned": {"0": plain[2]}}
    got = client.post("/v1/rank", json=body(1, request_id="other", rules=rules)).json()["items"]
    assert plain[0] not in got
    assert got[0] == plain[2]


BAD: dict[str, dict[str, Any]] = {
    "no candidates": {"candidates": []},
    "duplicate ids": {"candidates": [1, 1]},
    "ids of the wrong type": {"user_id": "u1"},
    "mixed ids": {"candidates": [1, "2"], "candidate_score": None, "candidate_features": [[0, 0]] * 2},
    "unknown field": {"colour": "red"},
    "wrong width": {"candidates": [1], "candidate_score": None, "candidate_features": [[1.0]]},
    "too long a list": {"slots": 10_000},
    "history after time": {"time": "2000-01-01T00:00:00Z", "history": [1], "history_feedback": [1], "history_time": ["2001-01-01T00:00:00Z"]},
    "unknown column": {"rules": {"dedupe": "shape"}},
    "huge id": {"user_id": 2**70},
    "surrogate": {"request_id": "\ud800"},
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_are_refused_and_store_nothing(client, service, name):
    content = json.dumps(body(**BAD[name]))
    answer = client.post("/v1/rank", content=content, headers={"content-type": "application/json"})
    assert code(answer) == (422, "invalid_request")
    both = '{"requests": [' + json.dumps(body(1)) + "," + content + "]}"
    answer = client.post(
        "/v1/rank:batch", content=both, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422
    assert service.store.count() == (0, 0)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"{", (400, "malformed_json")),
        (b"[" * 100_000, (400, "malformed_json")),
        (b'{"user_id": 1, "candidates": [1], "candidate_score": [NaN]}', (422, "invalid_request")),
        (b"\xff\xfe", (400, "malformed_json")),
        (b"x" * 5_000_000, (413, "too_large")),
    ],
)
def test_broken_bodies(client, content, wanted):
    headers = {"content-type": "application/json"}
    assert code(client.post("/v1/rank", content=content, headers=headers)) == wanted
    chunks = client.post("/v1/rank", content=iter([content]), headers=headers)
    assert code(chunks) == wanted


def test_infeasible_replayed_and_unknown(client):
    rules = {"at_least": [{"by": "price", "value": 1, "least": 1}], "on_infeasible": "fail"}
    assert code(client.post("/v1/rank", json=body(rules=rules)))[0] == 422
    assert client.post("/v1/rank", json=body()).status_code == 200
    assert code(client.post("/v1/rank", json=body())) == (409, "duplicate_request")
    event = {"request_id": "nobody", "item": 1, "kind": "click"}
    wanted = (404, "unknown_request")
    assert code(client.post("/v1/feedback", json={"events": [event]})) == wanted
    event = {"request_id": "nobody", "item": 1, "kind": "applause"}
    wanted = (422, "invalid_request")
    assert code(client.post("/v1/feedback", json={"events": [event]})) == wanted
    assert code(client.get("/v2")) == (404, "not_found")
    assert code(client.get("/v1/rank")) == (405, "method_not_allowed")


def test_a_failing_or_slow_model_degrades(client, service, monkeypatch):
    predictor = service.predictors["default"]
    order = sorted(zip(body(2)["candidate_score"], body(2)["candidates"]), reverse=True)

    def fail(*_):
        raise RuntimeError("out of memory")

    def slow(*_):
        clock.sleep(1.0)
        raise RuntimeError

    def no_numbers(batch, plans, slots, *_):
        return torch.arange(slots)[None], torch.tensor([torch.nan], dtype=torch.float64)

    for request, broken in (("a", fail), ("b", no_numbers), ("c", slow)):
        monkeypatch.setattr(predictor, "_lists", broken)
        service.deadline = 0.2
        got = client.post("/v1/rank", json=body(2, request_id=request)).json()
        assert got["degraded"]
        assert got["policy"] == "retriever"
        assert got["items"] == [item for _, item in order[: predictor.slots]]
    text = client.get("/metrics").text
    assert 'goalrank_degraded_total{reason="failure"} 2.0' in text
    assert 'goalrank_degraded_total{reason="deadline"} 1.0' in text
    assert service.store.count() == (3, 0)


def test_a_store_that_refuses(client, service, monkeypatch):
    def full(*_):
        raise StoreError("disk full")

    monkeypatch.setattr(service.store, "submit", full)
    assert code(client.post("/v1/rank", json=body())) == (503, "store_unavailable")
    service.on_store_failure = "serve-unlogged"
    got = client.post("/v1/rank", json=body()).json()
    assert not got["logged"]
    assert got["items"]


def test_keys_and_rates(service):
    app = create_app(service, Keys(f"shop:{KEY}", rate=2.0))
    with TestClient(app) as client:
        right, wrong = ({"Authorization": f"Bearer {k}"} for k in (KEY, KEY[::-1]))
        assert code(client.get("/v1/models")) == (401, "unauthorized")
        assert code(client.get("/v1/models", headers=wrong)) == (401, "unauthorized")
        states = [client.get("/v1/models", headers=right).status_code for _ in range(6)]
        assert states[:2] == [200, 200]
        assert 429 in states
        assert client.get("/health/live").status_code == 200


ASKING = """
import sys, time
from pathlib import Path
from goalrank.serving.http.access import Keys

text, file, here, start = sys.argv[1], *map(Path, sys.argv[2:])
keys = Keys(text, 40.0, file)
here.touch()
while not start.exists():
    time.sleep(0.001)
began, allowed = time.monotonic(), 0
while time.monotonic() < began + 1:
    allowed += keys.allow("shop")
print(allowed, began, time.monotonic())
"""


def test_a_key_has_one_limit_in_all_processes(tmp_path):
    text, file, start = f"shop:{KEY},other:{KEY[::-1]}", tmp_path / "rates", tmp_path / "start"
    ready = [tmp_path / name for name in ("a", "b")]
    command = [sys.executable, "-c", ASKING, text, file]
    running = [
        subprocess.Popen([*command, each, start], stdout=subprocess.PIPE, text=True)
        for each in ready
    ]
    while not all(each.exists() for each in ready):
        assert all(each.poll() is None for each in running)
        clock.sleep(0.01)
    start.touch()
    said = [each.communicate(timeout=100)[0].split() for each in running]
    span = max(float(end) for *_, end in said) - min(float(began) for _, began, _ in said)
    assert 40 <= sum(int(allowed) for allowed, *_ in said) <= 40 + 40 * span + 1
    keys = Keys(text, 40.0, file)
    assert all(keys.allow("other") for _ in range(40))  # a bucket of its own
    assert not all(keys.allow("other") for _ in range(40))


def test_hot_swap(client, service, folder, tmp_path):
    before = client.get("/v1/models").json()["models"][0]["policy"]
    service._bundles.folders["default"] = tmp_path / "bundle"
    make_bundle("dnn", reward=False).save(tmp_path / "bundle")
    assert service.reload() == ["default"]
    after = client.get("/v1/models").json()["models"][0]
    assert after["policy"] != before
    assert after["ranker"] == "dnn"
    assert service.reload() == []
    (tmp_path / "bundle" / "manifest.json").write_text("broken")
    with pytest.raises(Exception, match="bundle"):
        service.reload()
    assert client.post("/v1/rank", json=body()).json()["policy"] == after["policy"]


def test_ready_until_closed(service):
    app = create_app(service)
    with TestClient(app) as client:
        assert client.get("/health/ready").status_code == 200
        service.draining = True
        assert client.get("/health/ready").status_code == 503
        assert client.head("/health/ready").status_code == 503
        assert client.head("/health/live").status_code == 200
    assert service.draining


def test_history_without_times_has_the_mean_age_of_training(client, service):
    request = body(4, history=[1, 2], history_feedback=None, history_time=None, missing="mean")
    assert client.post("/v1/rank", json=request).json()["filled"] == ["history_time"]
    [[row]] = list(service.store.rows())
    age = service.predictors["default"].bundle.encoder.history_age[0]
    first, second = (row["time"] - each for each in row["history_time"])
    assert first == second + 1  # microseconds: their order is that of the history
    assert math.isclose(math.log1p(second / 3.6e9), age, rel_tol=1e-6)
