"""The page's routes: the lists are the served ones, each rule's effect is its own, keys hold."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from fastapi.testclient import TestClient

from goalrank.bundles import Bundle, Predictor
from goalrank.constraints.constraints import Constraints
from goalrank.requests import Requests
from goalrank.serving.http.access import Keys
from goalrank.serving.http.app import create_app
from goalrank.serving.page.examples import Examples, ItemSearch
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.store import Store
from tests.bundles.kit import make_bundle
from tests.tables import make_table

KEY = "0123456789abcdef"
DATA_ROUTES = (
    "/v1/page/about",
    "/v1/page/users",
    "/v1/page/request?user=1",
    "/v1/page/items",
    "/v1/page/stored?request_id=a&time=2026-01-01T00:00:00Z",
    "/v1/page/experiments",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    bundle = make_bundle(reward=False)
    table = make_table(20, seed=3)
    bundle.examples = Requests(table.frame, items=table.items, info=table.info)
    return bundle.save(tmp_path_factory.mktemp("b") / "bundle")


@pytest.fixture
def service(folder, tmp_path):
    return Service(folder, Store(f"sqlite:///{tmp_path / 's.db'}"), deadline=10.0)


@pytest.fixture
def client(service):
    with TestClient(create_app(service), raise_server_exceptions=False) as opened:
        yield opened


def example(client, at: int = 0) -> dict[str, Any]:
    user = client.get("/v1/page/users").json()["users"][at]["user"]
    return client.get("/v1/page/request", params={"user": user}).json()["request"]


def compare(client, request: dict[str, Any], **side) -> dict[str, Any]:
    side = {"variant": "default", "request_id": "r"} | side
    answer = client.post("/v1/page/compare", json={"request": request, "sides": [side]})
    assert answer.status_code == 200, answer.text
    return answer.json()["lists"][0]


def full(request: dict[str, Any]) -> bool:
    return len(request["candidates"]) >= 6


def some(client, count: int = 6) -> list[dict[str, Any]]:
    users = client.get("/v1/page/users").json()["users"]
    found = [example(client, at) for at in range(len(users))]
    return [each for each in found if full(each)][:count]


def test_the_bundle_keeps_its_examples(folder):
    table = make_table(20, seed=3)
    kept = Bundle.load(folder).examples
    assert kept is not None
    assert kept.items is not None
    assert table.items is not None
    assert kept.frame.equals(table.frame)
    assert kept.items.equals(table.items)
    assert kept.users is None


def test_the_list_is_the_one_that_would_be_served(client):
    for request in some(client):
        shown = compare(client, request)
        body = {key: value for key, value in request.items() if value is not None}
        served = client.post("/v1/rank", json=body).json()
        assert shown["items"] == served["items"]
        assert shown["log_prob"] == pytest.approx(served["log_prob"], abs=1e-4)
        assert math.prod(shown["probabilities"]) == pytest.approx(math.exp(shown["log_prob"]))
        assert shown["policy"] == served["policy"]


def test_nothing_is_stored_until_kept(client, service):
    request = some(client)[0]
    shown = compare(client, request)
    assert service.store.count() == (0, 0)
    side = {"variant": "default", "request_id": "r"}
    kept = client.post("/v1/page/keep", json={"request": request, "sides": [side]}).json()
    assert kept["lists"][0]["items"] == shown["items"]
    event = {"request_id": "r", "item": shown["items"][1], "kind": "click", "value": 0.5}
    assert client.post("/v1/feedback", json={"events": [event]}).json()["stored"] == 1
    stored = client.get("/v1/page/stored", params={"request_id": "r", "time": kept["time"]}).json()
    assert stored["items"] == shown["items"]
    assert stored["experiment"] == "page:default"
    wanted = {"item": shown["items"][1], "slot": 1, "kind": "click", "value": 0.5}
    assert stored["answers"] == [wanted]
    again = client.post("/v1/page/keep", json={"request": request, "sides": [side]})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "duplicate_request")
    assert service.store.count() == (1, 1)


def test_the_retrievers_order_is_its_scores(client):
    request = some(client)[0]
    shown = compare(client, request, variant="retriever")
    order = sorted(zip(request["candidate_score"], request["candidates"]), reverse=True)
    assert shown["items"] == [item for _, item in order[:4]]
    assert shown["probabilities"] is None


def test_a_draw_is_named_by_its_id(client):
    request = some(client)[0]
    one = compare(client, request, temperature=3.0, request_id="x")
    assert one["items"] == compare(client, request, temperature=3.0, request_id="x")["items"]
    others = {
        tuple(compare(client, request, temperature=3.0, request_id=str(i))["items"])
        for i in range(12)
    }
    assert len(others) > 1
    assert one["propensity"] == pytest.approx(math.prod(one["probabilities"]), rel=1e-4)


def test_each_rule_is_blamed_for_what_it_did(client):
    request = some(client)[0]
    plain = compare(client, request)["items"]
    fewer = compare(client, request | {"rules": {"blocked": [plain[0]]}})["items"]
    left = next(item for item in request["candidates"] if item not in {*plain, *fewer})
    idle = Constraints(blocked=(left,)).model_dump(mode="json", exclude_defaults=True)
    [effect] = compare(client, request | {"rules": idle})["rules"]
    assert (effect["state"], effect["changes"]) == ("idle", [])

    rules = {"blocked": [plain[0]], "pinned": {"3": left}}
    shown = compare(client, request | {"rules": rules})
    effects = {each["label"].split()[0]: each for each in shown["rules"]}
    without = compare(client, request | {"rules": {"pinned": {"3": left}}})["items"]
    assert effects["Blocked:"]["state"] == effects["Slot"]["state"] == "changed"
    for change in effects["Blocked:"]["changes"]:
        assert change["item"] == shown["items"][change["slot"]]
        assert change["instead"] == without[change["slot"]]
    assert any(change["instead"] == plain[0] for change in effects["Blocked:"]["changes"])

    never = {"at_least": [{"by": "genre", "value": "no such", "least": 1}]}
    [effect] = compare(client, request | {"rules": never})["rules"]
    assert effect["state"] == "given up"


def test_examples_are_moved_in_time_and_nothing_else():
    table = make_table(20, seed=3)
    row = int(table.frame["history"].list.len().arg_max() or 0)
    then = table.frame.row(row, named=True)
    now = datetime(2031, 5, 6, 7, 8, 9, 10, tzinfo=UTC)
    rows = [i for i, user in enumerate(table.frame["user_id"]) if user == then["user_id"]]
    found = Examples(table).request(str(then["user_id"]), rows.index(row), now)
    assert found is not None
    request = found["request"]
    assert request["time"] == now.isoformat()
    ages = [now - datetime.fromisoformat(time) for time in request["history_time"]]
    assert ages == [then["time"] - time for time in then["history_time"]]
    assert all(age > timedelta(0) for age in ages)
    liked = [at for at, value in zip(then["shown"], then["feedback"]["click"]) if value > 0]
    assert found["answers"]["liked"] == liked
    assert Examples(table).request("nobody", 0, now) is None
    assert Examples(None).users("", 5) == []


def test_items_are_found_by_title_and_id(client):
    found = client.get("/v1/page/items", params={"query": "iTEM 3"}).json()["items"]
    assert [each["id"] for each in found] == [3, *range(30, 40)]
    assert found[0]["title"] == "Item 3"
    assert {"name": "tags", "value": "t0, t1"} in found[0]["facts"]
    [one] = client.get("/v1/page/items", params={"query": "39"}).json()["items"]
    assert one["id"] == 39


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("istanbul", "İstanbul"),
        ("İSTANBUL", "istanbul"),
        ("igdir", "IĞDIR"),
        ("IĞDIR", "Iğdır"),
        ("amelie", "Amélie"),
        ("AMÉLIE", "Amelie Poulain"),
        ("lodz", "Łódź"),
        ("strasse", "Große Straße"),
    ],
)
def test_search_ignores_case_and_accents(query: str, title: str):
    predictor = Predictor(make_bundle(reward=False))
    items = pl.DataFrame({"item_id": [1, 2, 3], "title": ["other", title, None]})
    assert [card["id"] for card in ItemSearch(items, predictor).find(query, 5)] == [2]


def test_users_are_found_whatever_their_case_and_accents():
    table = make_table(3)
    frame = table.frame.with_columns(user_id=pl.Series(["Zoë", "İlker", "Bob"]))
    examples = Examples(Requests(frame, info=table.info))
    assert [each["user"] for each in examples.users("zoe", 5)] == ["Zoë"]
    assert [each["user"] for each in examples.users("ilk", 5)] == ["İlker"]
    assert [each["user"] for each in examples.users("B", 5)] == ["Bob"]


def test_the_search_follows_the_served_table(service, client):
    assert client.get("/v1/page/items", params={"query": "new name"}).json()["items"] == []
    predictor = service.predictors["default"]
    predictor.items = pl.DataFrame({"item_id": [5], "title": ["A new name"]})
    [one] = client.get("/v1/page/items", params={"query": "NEW NAME"}).json()["items"]
    assert one["id"] == 5


def test_typed_candidates_have_average_features(client):
    request = {"user_id": 1, "candidates": [3, 4, 5, 6, 99], "missing": "mean"}
    shown = compare(client, request)
    assert len(shown["items"]) == 4
    assert shown["filled"] == ["candidate_score", "candidate_features"]
    encoder = make_bundle(reward=False).encoder
    assert encoder.score is not None
    mean, score = encoder.candidate[:, 0].tolist(), encoder.score
    given = request | {"candidate_features": [mean] * 5, "candidate_score": [score[0]] * 5}
    again = compare(client, given)
    assert again["items"] == shown["items"]
    assert again["filled"] == []


BAD: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "unknown variant": ({}, {"variant": "nobody"}, "invalid_request"),
    "cold": ({}, {"temperature": 0}, "invalid_request"),
    "string ids": ({"candidates": ["a", "b"]}, {}, "invalid_request"),
    "no features": ({"candidate_features": None}, {}, "missing_input"),
    "wrong width": ({"candidate_features": [[1.0]] * 3}, {}, "invalid_request"),
    "unknown column": ({"rules": {"dedupe": "shape"}}, {}, "invalid_request"),
    "no such slot": ({"rules": {"pinned": {"9": 1}}}, {}, "invalid_request"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_have_a_code(client, service, name):
    request, side, code = BAD[name]
    body = {
        "request": {
            "user_id": 1, "candidates": [1, 2, 3], "candidate_score": [3, 2, 1],
            "candidate_features": [[0, 1]] * 3,
        } | request,
        "sides": [{"request_id": "r"} | side],
    }  # fmt: skip
    for route in ("/v1/page/compare", "/v1/page/keep"):
        answer = client.post(route, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)
    assert service.store.count() == (0, 0)


def test_unknown_things_are_not_found(client):
    for route in ("/v1/page/request?user=nobody", DATA_ROUTES[4], "/page/../app.py", "/page/x.js"):
        assert client.get(route).status_code == 404


def test_data_need_the_key_and_the_shell_does_not(service):
    app = create_app(service, Keys(f"tests:{KEY}", rate=0.5))
    with TestClient(app, raise_server_exceptions=False) as client:
        for route in DATA_ROUTES:
            assert client.get(route).status_code == 401
        for route in ("/v1/page/compare", "/v1/page/keep"):
            body = {"request": {"user_id": 1, "candidates": [1]}, "sides": [{"request_id": "r"}]}
            assert client.post(route, json=body).status_code == 401
        assert client.get("/").status_code == 200
        client.headers["Authorization"] = f"Bearer {KEY}"
        statuses = [client.get("/v1/page/users").status_code for _ in range(3)]
    assert statuses[0] == 200
    assert 429 in statuses


def test_the_shell_allows_nothing_but_itself(client):
    page = client.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert "<style" not in page.text
    assert " style=" not in page.text
    assert page.text.count("<script") == page.text.count('<script type="module" src="page/') == 1
    mark = {"If-None-Match": page.headers["etag"]}
    assert client.get("/", headers=mark).status_code == 304
    for name in ("app.js", "style.css", "icon.svg"):
        file = client.get(f"/page/{name}")
        assert file.status_code == 200
        assert "http://" not in file.text.replace("http://www.w3.org/", "")
        assert "https://" not in file.text
