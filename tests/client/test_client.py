"""The client says what the service says, tries again where that is harmless, and needs little."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest

from goalrank.client import Client, EventBody, Refused
from goalrank.errors import ConfigError, DataError
from goalrank.serving.http.access import Keys
from goalrank.serving.http.app import create_app
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.store import Store
from tests.bundles.kit import make_bundle
from tests.client.generate import TARGET, described, made
from tests.serving.http.test_app import body
from tests.serving.live import live

KEY = "0123456789abcdef"


def test_bodies_are_those_of_the_service():
    pytest.importorskip("datamodel_code_generator")
    assert TARGET.read_text() == made(), "run `python -m tests.client.generate`"


def answering(*answers, tries=3):
    """A client whose tries get these answers in turn, and what it sent."""
    sent, left = [], list(answers)

    def answer(request):
        sent.append(request)
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    client = Client("http://shop", KEY, tries=tries)
    client._http = httpx.Client(
        base_url="http://shop", headers=client._http.headers, transport=httpx.MockTransport(answer)
    )
    return client, sent


def test_each_route_has_a_method():
    done = httpx.Response(200, json={"lists": [], "models": []})
    client, sent = answering(*[done] * 9)
    client.rank(user_id=1, candidates=[1])
    client.rank_batch([])
    client.recommend(user_id=1)
    client.feedback([])
    client.events([])
    client.user("a/b ü")
    client.item(7)
    client.forget_user("a/b ü")
    client.models()
    routes = {
        (method.upper(), re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + "$"))
        for path, methods in described()["paths"].items()
        for method in methods
    }
    used = [(each.method, each.url.raw_path.decode()) for each in sent]
    hit = {
        (method, path)
        for method, path in routes
        if any(method == m and path.match(p) for m, p in used)
    }
    assert hit == routes
    assert len(used) == len(routes)
    assert all(each.headers["Authorization"] == f"Bearer {KEY}" for each in sent)


def busy(status):
    return httpx.Response(
        status,
        headers={"Retry-After": "0"},
        json={"error": {"code": "busy", "message": "later", "details": []}},
    )


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again(status):
    client, sent = answering(busy(status), busy(status), httpx.Response(200, json={"items": [1]}))
    assert client.rank(user_id=1, candidates=[1])["items"] == [1]
    assert len(sent) == 3
    client, sent = answering(busy(status), busy(status), tries=2)
    with pytest.raises(Refused, match="busy") as refused:
        client.rank(user_id=1, candidates=[1])
    assert (refused.value.status, len(sent)) == (status, 2)


@pytest.mark.parametrize("said", ["Wed, 21 Oct 2026 07:28:00 GMT", "-3", "nan", "inf", "soon", ""])
def test_a_pause_that_cannot_be_read_is_a_second(said, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr("goalrank.client.client.time.sleep", slept.append)
    odd = busy(503)
    odd.headers["Retry-After"] = said
    client, _ = answering(odd, httpx.Response(200, json={"items": [1]}))
    assert client.rank(user_id=1, candidates=[1])["items"] == [1]
    assert slept == [0.0 if said == "-3" else 1.0]


def test_a_long_pause_is_not_cut_short(monkeypatch):
    """After many wrong keys the service wants a minute: asking after 5 s would keep it shut."""
    monkeypatch.setattr("goalrank.client.client.time.sleep", lambda _: pytest.fail("it waited"))
    shut = busy(429)
    shut.headers["Retry-After"] = "60"
    client, sent = answering(shut)
    with pytest.raises(Refused) as refused:
        client.models()
    assert (refused.value.retry_after, len(sent)) == (60, 1)


def test_a_connection_that_was_never_made_is_tried_again_everywhere(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr("goalrank.client.client.time.sleep", slept.append)
    refused, done = httpx.ConnectError("refused"), httpx.Response(200, json={"items": [1]})
    client, sent = answering(refused, httpx.ConnectTimeout("late"), done)
    assert client.rank(user_id=1, candidates=[1])["items"] == [1]
    assert len(sent) == 3
    assert 0 < slept[0] < slept[1]


@pytest.mark.parametrize("name", ["time", "event_id"])
def test_an_event_whose_time_is_none_has_no_time(name):
    """It would count twice, as one without the field would."""
    event = {"type": "interaction", "user_id": 1, "item_id": 2, name: None}
    client, sent = answering(httpx.ReadError("lost"), httpx.Response(200, json={"stored": 1}))
    with pytest.raises(httpx.ReadError):
        client.events([event])
    assert len(sent) == 1


def test_numbers_of_numpy_and_datetimes_are_written():
    client, sent = answering(*[httpx.Response(200, json={"items": []})] * 2)
    when = datetime(2026, 1, 1, tzinfo=UTC)
    ids = np.array([2**53 + 1, 2**63 - 1])
    client.rank(user_id=np.int64(7), time=when, candidates=ids, candidate_score=[np.float32(0.5)])
    assert json.loads(sent[0].content) == {
        "user_id": 7, "time": "2026-01-01T00:00:00+00:00", "candidates": [2**53 + 1, 2**63 - 1],
        "candidate_score": [0.5],
    }  # fmt: skip
    client.rank(user_id="日本 ü", candidates=["\u0000", "a/b"])
    assert json.loads(sent[1].content)["user_id"] == "日本 ü"
    assert sent[1].headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("odd", [float("nan"), {1, 2}, "\ud800", object()])
def test_what_json_cannot_say_is_refused_before_it_is_sent(odd):
    client, sent = answering()
    with pytest.raises(DataError, match=r"cannot be written as JSON.*remedy"):
        client.rank(user_id=1, candidates=[1], candidate_score=[odd])
    with pytest.raises(DataError, match=r"cannot be written as JSON.*remedy"):
        client.user("\ud800")
    assert not sent


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "localhost:8000"}, r"'localhost:8000' is no address.*http://"),
        ({"url": "shop"}, "option: url"),
        ({"url": ""}, "option: url"),
        ({"url": "ftp://shop"}, "option: url"),
        ({"url": "http://[x"}, "option: url"),
        ({"url": "http://shop:99999"}, "option: url"),
        ({"key": "schlüssel"}, "option: key"),
        ({"key": KEY + "\n"}, "option: key"),
        ({"key": ""}, "option: key"),
        ({"timeout": 0}, "option: timeout"),
        ({"timeout": float("nan")}, "option: timeout"),
        ({"tries": 0}, "option: tries"),
    ],
)
def test_what_cannot_reach_a_service_is_refused_at_once(options, words):
    with pytest.raises(ConfigError, match=words):
        Client(**{"url": "http://shop", **options})


@pytest.mark.parametrize(
    "odd",
    [
        httpx.Response(200, text="<html>log in to the network</html>"),
        httpx.Response(500, json={"error": {"code": "x", "message": "y", "details": ["z"]}}),
        httpx.Response(500, json=["x"]),
        httpx.Response(302, headers={"Location": "http://elsewhere"}),
    ],
)
def test_an_odd_answer_is_a_refusal(odd):
    client, _ = answering(odd)
    with pytest.raises(Refused, match="unknown"):
        client.models()


def test_an_error_without_details_keeps_its_words():
    error = {"code": "too_large", "message": "a body has at most 4 MB", "details": None}
    client, _ = answering(httpx.Response(413, json={"error": error}))
    with pytest.raises(Refused, match="413 too_large: a body has at most 4 MB"):
        client.models()


def test_a_lost_connection_is_tried_again_where_it_is_harmless():
    lost, done = httpx.ReadError("lost"), httpx.Response(200, json={"stored": 1})
    client, sent = answering(lost, done)
    assert client.feedback([{"request_id": "r", "item": 1, "kind": "click"}])["stored"] == 1
    assert len(sent) == 2
    timed = {"type": "interaction", "user_id": 1, "item_id": 2, "time": "2026-01-01T00:00:00Z"}
    client, sent = answering(lost, done)
    client.events([timed])
    assert len(sent) == 2
    for call in (
        lambda c: c.rank(user_id=1, candidates=[1]),
        lambda c: c.recommend(user_id=1),
        lambda c: c.rank_batch([{"user_id": 1, "candidates": [1]}]),
        lambda c: c.events([{k: v for k, v in timed.items() if k != "time"}]),
    ):
        client, sent = answering(lost, done)
        with pytest.raises(httpx.ReadError):
            call(client)
        assert len(sent) == 1


def test_an_answer_that_is_no_answer_of_the_service():
    client, _ = answering(httpx.Response(502, text="<html>bad gateway</html>"))
    with pytest.raises(Refused, match="502 unknown: <html>bad gateway") as refused:
        client.models()
    assert refused.value.code == "unknown"


def test_a_real_service(tmp_path):
    bundle = make_bundle(reward=False).save(tmp_path / "bundle")
    service = Service(bundle, Store(f"sqlite:///{tmp_path / 's.db'}"), deadline=10.0)
    first, second = body(0), body(1)
    items = first["candidates"]
    with live(create_app(service, Keys(f"shop:{KEY}"))) as url:
        with Client(url) as stranger, pytest.raises(Refused) as refused:
            stranger.models()
        assert refused.value.status == 401
        with Client(url, KEY) as client:
            assert client.is_ready()
            assert client.models()[0]["bundle"] == "default"
            answer = client.rank(**first)
            assert set(answer["items"]) <= set(items)
            assert answer["logged"]
            assert len(client.rank_batch([second, body(2)])) == 2
            kind = client.models()[0]["feedback_kinds"][0]
            event: EventBody = {
                "request_id": answer["request_id"],
                "item": answer["items"][0],
                "kind": kind,
            }
            assert client.feedback([event])["stored"] == 1
            assert client.feedback([event])["duplicates"] == 1
            with pytest.raises(Refused, match="candidates are distinct"):
                client.rank(**body(3, candidates=[items[0], items[0]]))
    with Client(url, KEY, timeout=1) as client:
        assert not client.is_ready()


def test_the_client_loads_no_heavy_library():
    heavy = "{'torch', 'numpy', 'polars', 'pydantic', 'fastapi'}"
    code = f"import sys, goalrank.client; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
