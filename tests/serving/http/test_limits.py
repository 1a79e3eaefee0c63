"""Limits before any work: headers, hosts, keys, tokens; and overload, which is shed."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from goalrank.errors import ConfigError
from goalrank.serving.http import admission as limits
from goalrank.serving.http import slow_clients as slow
from goalrank.serving.http.access import Keys
from goalrank.serving.http.admission import Admission
from goalrank.serving.http.app import create_app
from goalrank.serving.http.authorization import WrongKeys
from goalrank.serving.http.hosts import LOOPBACK
from goalrank.serving.http.server import _refuse_open_door, uvicorn_options
from goalrank.serving.http.settings import ServeSettings
from goalrank.serving.observability.metrics import Metrics
from goalrank.serving.ranking.service import Service
from tests.bundles.kit import make_bundle
from tests.serving.http.test_app import KEY, body, code
from tests.serving.live import live

PROTOCOL = "goalrank.serving.http.slow_clients:RequestTimeoutProtocol"
RIGHT = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_bundle(reward=False).save(tmp_path_factory.mktemp("b") / "bundle")


@pytest.fixture
def service(folder):
    return Service(folder, deadline=10.0)


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"], ids=["endless", "complete"])
def test_large_headers_are_refused(service, end):
    sent = b"GET /health/live HTTP/1.1\r\nhost: a\r\n"
    sent += b"".join(b"x-%d: %s\r\n" % (i, b"y" * 1_000) for i in range(60))
    with live(create_app(service), http=PROTOCOL) as url, socket.socket() as caller:
        caller.settimeout(10)
        caller.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        caller.sendall(sent + end)
        got = b""
        try:
            while part := caller.recv(4096):
                got += part
        except ConnectionResetError:
            pass
        assert b" 431 " in got
        assert b'"code": "too_large"' in got
        small = httpx.get(f"{url}/health/live", headers={"x-a": "y" * (slow.MAX_HEADERS // 2)})
        assert small.status_code == 200


def test_an_idle_connection_stays_open_as_long_as_it_is_told_to(service):
    """Load balancers keep connections for 60 s; the server must not be the first to close them."""
    assert uvicorn_options(ServeSettings(bundle=Path("b")))["timeout_keep_alive"] > 60
    options = uvicorn_options(ServeSettings(bundle=Path("b"), keep_alive=0.4))
    asked = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with live(create_app(service), **options) as url, socket.socket() as caller:
        caller.settimeout(3)  # less than the 5 s of uvicorn's own
        caller.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        for _ in range(3):  # each request starts the time anew
            time.sleep(0.2)
            caller.sendall(asked)
            assert b" 200 " in caller.recv(4096)
        began = time.monotonic()
        assert caller.recv(4096) == b""
        assert 0.3 < time.monotonic() - began < 2


def test_another_host_is_refused(service):
    with TestClient(create_app(service, hosts=(*LOOPBACK, "*.example.org"))) as client:
        for host in ("evil.example", "127.0.0.1.evil.example:80", "", "example.org"):
            answer = client.post("/v1/rank", json=body(), headers={"host": host})
            assert code(answer) == (421, "unknown_host"), host
        for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "a.example.org"):
            assert client.get("/health/live", headers={"host": host}).status_code == 200, host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_no_keys_means_this_machine_alone(monkeypatch, tmp_path, host):
    monkeypatch.delenv("GOALRANK_API_KEYS", raising=False)
    settings = ServeSettings(bundle=tmp_path, host=host)
    with pytest.raises(ConfigError, match=r"no API keys.*option: insecure"):
        _refuse_open_door(settings)
    _refuse_open_door(ServeSettings(bundle=tmp_path, host=host, insecure=True))
    _refuse_open_door(ServeSettings(bundle=tmp_path))
    monkeypatch.setenv("GOALRANK_API_KEYS", f"shop:{KEY}")
    _refuse_open_door(settings)


def test_every_option_of_the_log_has_a_rule(tmp_path):
    with pytest.raises(ValidationError):
        ServeSettings.model_validate({"bundle": tmp_path, "log_format": "xml"})


def test_each_list_of_a_batch_costs_a_token(service):
    with TestClient(create_app(service, Keys(f"shop:{KEY}", rate=50.0))) as client:
        asked = {"requests": [body(i % 20, request_id=f"r{i}") for i in range(300)]}
        first = client.post("/v1/rank:batch", json=asked, headers=RIGHT)
        assert first.status_code == 200
        assert len(first.json()["lists"]) == 300
        assert code(client.post("/v1/rank", json=body(), headers=RIGHT)) == (429, "rate_limited")


BODIES = ("rank", "rank:batch", "feedback")


@pytest.mark.parametrize("route", BODIES)
@pytest.mark.parametrize("content", [b"{", b"[" * 10_000, b'{"requests": 3}'])
def test_a_body_is_not_read_without_a_key(service, route, content):
    json_type = {"Content-Type": "application/json"}
    with TestClient(create_app(service, Keys(f"shop:{KEY}"))) as client:
        told = client.post(f"/v1/{route}", content=content, headers=json_type)
        assert code(told) == (401, "unauthorized")
        told = client.post(f"/v1/{route}", content=content, headers={**json_type, **RIGHT})
        assert told.status_code in (400, 422)


@pytest.mark.parametrize("route", BODIES)
def test_a_request_whose_body_is_refused_costs_one_token(service, route):
    with TestClient(create_app(service, Keys(f"shop:{KEY}", rate=3.0))) as client:
        seen = [
            client.post(f"/v1/{route}", json={"no": "body"}, headers=RIGHT).status_code
            for _ in range(12)
        ]
    assert seen[:3] == [422] * 3
    assert 429 in seen


def test_wrong_keys_cannot_be_tried_quickly(service):
    with TestClient(create_app(service, Keys(f"shop:{KEY}"))) as client:
        found = [
            client.get("/v1/models", headers={"Authorization": f"Bearer {i:016d}"}).status_code
            for i in range(150)
        ]
        assert found[:20] == [401] * 20
        assert found.count(429) >= 120
        assert client.get("/v1/models", headers=RIGHT).status_code == 200
    few = WrongKeys(callers=3)
    assert all(few.allow(str(number)) for number in range(100))
    assert len(few._seen) == 3


def test_metrics_need_the_key_and_the_docs_no_script(service):
    with TestClient(create_app(service, Keys(f"shop:{KEY}"))) as client:
        assert code(client.get("/metrics")) == (401, "unauthorized")
        assert client.get("/metrics", headers=RIGHT).status_code == 200
        docs = client.get("/docs").text
        assert "POST /v1/rank:batch" in docs
        assert "<script" not in docs
        assert "http" not in docs.replace("http-equiv", "").split("<h2>Bodies")[0]


def test_the_limit_follows_the_answers():
    admission = Admission(1.0, Metrics())
    first = admission.limit
    for number in range(200):
        admission.under_way = int(admission.limit)
        admission.leave(0.1, number / 100)
    assert first < admission.limit
    grown = admission.limit
    for number in range(200, 400):
        admission.under_way = int(admission.limit) + 1
        admission.leave(0.9, number / 100)
    assert admission.limit < grown / 4
    assert admission.limit >= 8


def test_beyond_the_limit_requests_are_shed_and_health_checks_are_not(folder, monkeypatch):
    monkeypatch.setattr(limits, "_FIRST", 8.0)
    service = Service(folder, deadline=10.0)
    go_on = threading.Event()
    lists = service.predictors["default"]._lists

    def slow_lists(*arguments):
        go_on.wait(20)
        return lists(*arguments)

    monkeypatch.setattr(service.predictors["default"], "_lists", slow_lists)
    statuses: list[int] = []

    async def load(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:

            async def ask(number: int) -> httpx.Response:
                answer = await client.post("/v1/rank", json=body(request_id=f"r{number}"))
                statuses.append(answer.status_code)
                return answer

            tasks = [asyncio.create_task(ask(number)) for number in range(40)]
            while len(statuses) < 32:
                await asyncio.sleep(0.01)
            assert (await client.get("/health/live", timeout=5)).status_code == 200
            refused = [task.result() for task in tasks if task.done()]
            assert {each.headers["retry-after"] for each in refused} == {"1"}
            assert {code(each) for each in refused} == {(503, "overloaded")}
            go_on.set()
            await asyncio.gather(*tasks)

    with live(create_app(service), http=PROTOCOL) as url:
        asyncio.run(load(url))
        assert "goalrank_shed_total 32.0" in httpx.get(f"{url}/metrics").text
    assert statuses.count(200) == 8
    assert statuses.count(503) == 32


def test_a_refused_request_leaves_its_connection_as_it_was(service, monkeypatch):
    """Bodies that come in parts, and requests sent at once: one answer each, then a list again."""
    app = create_app(service)
    content = json.dumps(body()).encode()
    head = b"POST /v1/rank HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    head += b"content-length: %d\r\n" % len(content)
    whole = head + b"\r\n" + content
    full = True
    monkeypatch.setattr(Admission, "full", property(lambda _: full))
    with live(app, http=PROTOCOL) as url, socket.socket() as caller:
        caller.settimeout(10)
        caller.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        file = caller.makefile("rb")

        def answer() -> tuple[int, dict[str, str], dict[str, object]]:
            status = int(file.readline().split()[1])
            lines = iter(lambda: file.readline().decode().strip(), "")
            headers = dict(line.lower().split(": ") for line in lines)
            return status, headers, json.loads(file.read(int(headers["content-length"])))

        refusals = []
        caller.sendall(whole[:-700])
        for start in range(700, 0, -100):  # slower than the headers
            time.sleep(0.01)
            caller.sendall(whole[-start : -start + 100 or None])
        refusals.append(answer())
        caller.sendall(whole * 3)
        refusals += [answer() for _ in range(3)]
        caller.sendall(head + b"connection: keep-alive\r\nexpect: 100-continue\r\n\r\n" + content)
        refusals.append(answer())
        for status, headers, said in refusals:
            assert (status, headers["retry-after"]) == (503, "1")
            assert said["error"]["code"] == "overloaded"  # type: ignore[index]
        full = False
        caller.sendall(whole)
        assert answer()[0] == 200
        full = True
        caller.sendall(head + b"connection: close\r\n\r\n" + content)
        assert answer()[0] == 503
        assert file.read() == b""
        file.close()
    assert "goalrank_shed_total 6.0" in service.metrics.text().decode()


def test_a_refused_body_that_never_comes_is_let_go(service, monkeypatch):
    monkeypatch.setattr(Admission, "full", property(lambda _: True))
    monkeypatch.setattr(slow, "TIMEOUT", 0.3)
    with live(create_app(service), http=PROTOCOL) as url, socket.socket() as caller:
        caller.settimeout(10)
        caller.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        caller.sendall(b"POST /v1/rank HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n{")
        got = b""
        while part := caller.recv(4096):
            got += part
    assert b" 408 " in got


def test_time_counts_from_the_last_byte(folder, monkeypatch):
    """A request that has waited for its deadline before it is looked at gets no model's list."""
    service = Service(folder, deadline=0.3)
    with TestClient(create_app(service)) as client:
        now = time.perf_counter()
        [late] = service.rank([service_body(0)], now - 1.0)
        [early] = service.rank([service_body(1)], now + 20.0)
        assert late.degraded
        assert not early.degraded
        text = client.get("/metrics").text
    assert "goalrank_queue_seconds_count" in text
    assert "goalrank_queue_seconds_count 0.0" not in text


def service_body(row: int):
    from goalrank.serving.http.schemas import RankBody

    return RankBody.model_validate(body(row))
