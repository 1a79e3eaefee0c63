"""Lines of the server's log: time, level, request id and trace id, as text and as JSON."""

from __future__ import annotations

import io
import json
import logging
import re
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from goalrank.serving.http.access import Keys
from goalrank.serving.http.app import create_app
from goalrank.serving.observability.logs import configure_logs
from goalrank.serving.ranking.service import Service
from tests.bundles.kit import make_bundle
from tests.serving.http.test_app import KEY, body

TRACE = "0af7651916cd43dd8448eb211c80319c"
SENT = {
    "Authorization": f"Bearer {KEY}", "X-Request-ID": "order-7",
    "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
}  # fmt: skip
_LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (?P<level>[a-z]+) (?P<logger>\S+) (?P<rest>.*)"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_bundle(reward=False).save(tmp_path_factory.mktemp("b") / "bundle")


@pytest.fixture
def stream() -> io.StringIO:
    """Where log lines go."""
    return io.StringIO()


@pytest.fixture
def client(folder):
    with TestClient(create_app(Service(folder, deadline=10.0), Keys(f"shop:{KEY}"))) as opened:
        yield opened


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def test_the_access_line_as_json(client, stream):
    configure_logs("json", "info", True, stream)
    began = now()
    answer = client.post("/v1/rank", json=body(), headers=SENT)
    assert answer.headers["x-request-id"] == "order-7"
    [line] = [json.loads(each) for each in stream.getvalue().splitlines()]
    moment = datetime.fromisoformat(line.pop("time"))
    assert began <= moment <= datetime.now(UTC)
    assert 0 < line.pop("seconds") < 60
    assert line == {
        "level": "info", "logger": "goalrank.access", "message": "answered", "method": "POST",
        "path": "/v1/rank", "status": 200, "client": "testclient", "key": "shop",
        "request_id": "order-7", "trace_id": TRACE,
    }  # fmt: skip


def test_the_access_line_as_text(client, stream):
    configure_logs("text", "info", True, stream)
    client.get("/v1/models", headers=SENT | {"Authorization": "Bearer wrong"})
    found = _LINE.fullmatch(stream.getvalue().strip())
    assert found is not None
    assert (found["level"], found["logger"]) == ("info", "goalrank.access")
    values = dict(part.split("=") for part in found["rest"].split()[1:])
    assert values["status"] == "401"
    assert (values["request_id"], values["trace_id"]) == ("order-7", TRACE)
    assert KEY not in stream.getvalue()


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_fault_is_logged_with_its_request(client, stream, style, monkeypatch):
    """The line of an error inside has the ids of the request, so that both can be found together."""
    configure_logs(style, "info", True, stream)

    def fail(*_: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(client.app.state.service, "rank_async", fail)
    answer = client.post("/v1/rank", json=body(), headers=SENT)
    assert answer.status_code == 500
    assert "planted" not in answer.text
    text = stream.getvalue()
    assert "RuntimeError: planted" in text
    if style == "json":
        fault, access = (json.loads(each) for each in text.splitlines())
        assert (fault["level"], fault["request_id"], fault["trace_id"]) == (
            "error",
            "order-7",
            TRACE,
        )
        assert "Traceback" in fault["error"]
        assert access["status"] == 500
    else:
        first = text.splitlines()[0]
        assert f"request_id=order-7 trace_id={TRACE}" in first
        assert " error goalrank.serving " in first


def test_names_that_callers_send_cannot_forge_lines(client, stream):
    configure_logs("text", "info", True, stream)
    odd = {"X-Request-ID": "a b\tlevel=error", "traceparent": "00-zz-1-01"}
    first = client.get("/health/live", headers=odd).headers["x-request-id"]
    second = client.get("/health/live%0a2026-01-01T00:00:00.000Z%20error").headers["x-request-id"]
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert "trace_id" not in lines[0]
    assert r'path="/health/live\n2026-01-01T00:00:00.000Z error"' in lines[1]
    assert re.fullmatch(r"[0-9a-f]{16}", first)
    assert first != second


@pytest.mark.parametrize(
    ("level", "access", "lines"), [("info", True, 1), ("info", False, 0), ("error", True, 1)]
)
def test_the_access_log_has_its_own_switch(client, stream, level, access, lines):
    configure_logs("text", level, access, stream)
    client.get("/v1/models", headers=SENT)
    assert len(stream.getvalue().splitlines()) == lines


def test_levels(stream):
    configure_logs("json", "warning", True, stream)
    log = logging.getLogger("goalrank.serving")
    log.info("left out")
    log.warning("value %d", 7, extra={"fields": {"path": SimpleNamespace(a=1)}})
    [line] = [json.loads(each) for each in stream.getvalue().splitlines()]
    assert (line["level"], line["message"]) == ("warning", "value 7")
    assert "request_id" not in line


def test_a_message_stays_on_its_line(stream):
    configure_logs("text", "info", True, stream)
    logging.getLogger("goalrank.serving").error("no file %s", "a\n2026 error\x1b[2J é")
    [line] = stream.getvalue().splitlines()
    assert line.endswith(r"no file a\n2026 error\x1b[2J é")
