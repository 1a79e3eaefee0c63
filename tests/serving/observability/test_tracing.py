"""Traces: the spans of each request, under the caller's own trace."""

from __future__ import annotations

import sys

import pytest
from fastapi.testclient import TestClient

from goalrank.bundles.timing import timed
from goalrank.errors import MissingExtraError
from goalrank.serving.http.app import create_app
from goalrank.serving.observability.tracing import Tracing, configured_tracing
from goalrank.serving.ranking.service import Service
from goalrank.serving.store.store import Store
from tests.bundles.kit import make_bundle
from tests.serving.http.test_app import body

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def test_rank_encode_decode_store(tmp_path):
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter = memory.InMemorySpanExporter()
    folder = make_bundle(reward=False).save(tmp_path / "bundle")
    store = Store(f"sqlite:///{tmp_path / 's.db'}")
    service = Service(folder, store, deadline=20.0, tracing=Tracing(exporter))
    parent = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    with TestClient(create_app(service)) as client:
        answer = client.post("/v1/rank", json=body(), headers=parent).json()
        assert answer["logged"]
        assert client.post("/v1/rank", json=body()).status_code == 409
        event = {"request_id": answer["request_id"], "item": answer["items"][0], "kind": "click"}
        assert client.post("/v1/feedback", json={"events": [event]}).json()["stored"] == 1
    spans = exporter.get_finished_spans()  # closing the service sent them all
    first = [span for span in spans if span.context.trace_id == int("a" * 32, 16)]
    [rank] = [span for span in first if span.name == "rank"]
    assert rank.parent.span_id == int("b" * 16, 16)
    assert rank.attributes["goalrank.requests"] == 1
    inner = sorted((span for span in first if span is not rank), key=lambda span: span.start_time)
    assert [span.name for span in inner] == ["encode", "decode", "store"]
    for earlier, later in zip([rank, *inner], inner):
        assert later.parent.span_id == rank.context.span_id
        assert earlier.start_time <= later.start_time <= later.end_time <= rank.end_time
    refused = [span for span in spans if span.name == "store" and not span.status.is_ok]
    assert len(refused) == 1
    assert "in the store already" in refused[0].status.description
    assert [span.name for span in spans].count("feedback") == 1


def test_nothing_is_traced_unless_asked(monkeypatch):
    monkeypatch.delenv(_ENDPOINT, raising=False)
    assert configured_tracing() is None
    with timed("encode"):
        pass
    monkeypatch.setenv(_ENDPOINT, "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert configured_tracing(True) is None


def test_without_the_extra_the_error_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.setenv(_ENDPOINT, "http://127.0.0.1:1")
    with pytest.raises(MissingExtraError, match=r"goalrank\[otel\]"):
        configured_tracing()
    monkeypatch.delenv(_ENDPOINT)
    with pytest.raises(MissingExtraError, match="--trace"):
        configured_tracing(True)
