"""docs/live.md: its commands run, and its requests are answered."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("implicit")

from fastapi.testclient import TestClient

from goalrank.serving import ServeSettings, build_app
from tests.docs.runner import blocks, commands, run

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "live.md"


def requests_of_the_document():
    """(method, path, body) of each curl line."""
    for block in blocks(DOCUMENT):
        for line in commands(block) if block.language == "sh" else []:
            words = shlex.split(line)
            address = next(word for word in words if word.startswith("127.0.0.1:8000"))
            body = words[words.index("--json") + 1] if "--json" in words else None
            method = words[words.index("-X") + 1] if "-X" in words else "POST" if body else "GET"
            yield method, address.removeprefix("127.0.0.1:8000"), body and json.loads(body)


def test_every_command_and_request_of_the_document(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(DOCUMENT)
    settings = ServeSettings(bundle=Path("run"), state=Path("state"), deadline=30)
    answers = {}
    with TestClient(build_app(settings), base_url="http://127.0.0.1") as client:
        before = client.get("/v1/users/77").json()["events"]
        for method, path, body in requests_of_the_document():
            answer = client.request(method, path, json=body)
            assert answer.status_code == 200, (path, answer.text)
            answers[method, path] = answer.json()
        assert not client.get("/v1/users/77").json()["known"]
    assert answers["POST", "/v1/events"] | {"position": 0} == {
        "stored": 1, "duplicates": 0, "position": 0,
    }  # fmt: skip
    listed = answers["POST", "/v1/recommend"]
    assert len(set(listed["items"])) == 6
    assert 1 not in listed["items"]  # just seen
    assert not listed["degraded"]
    assert answers["GET", "/v1/users/77"]["events"] == before + 1
    assert answers["DELETE", "/v1/users/77"] == {
        "known": True, "events": before + 1, "exposures": 1,
    }  # fmt: skip


def test_the_document_can_be_found():
    assert "docs/live.md" in (ROOT / "README.md").read_text()
    for option in ("--state", "--items"):
        assert option[2:] in ServeSettings.model_fields
