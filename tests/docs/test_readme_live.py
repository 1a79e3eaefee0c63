"""The README's live block: import, first version, replay, serve, an event, a list, retrain, promote."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("implicit")

from fastapi.testclient import TestClient
from typer.testing import CliRunner

from goalrank import training
from goalrank.cli import app
from goalrank.models import ModelRegistry
from goalrank.serving import ServeSettings, build_app
from tests.docs.runner import blocks, commands

ROOT = Path(__file__).parents[2]


def live_commands() -> list[list[str]]:
    """Words of each command of the block, without comments."""
    [block] = [b for b in blocks(ROOT / "README.md") if "/v1/recommend" in b.text]
    lines = [re.sub(r" +#.*| &$", "", re.sub(r" +#.*", "", line)) for line in commands(block)]
    return [shlex.split(part) for line in lines for part in line.split(" && ")]


@pytest.fixture
def linear(monkeypatch):
    """A linear model instead of the long training."""
    full, cut = (
        training.load_config,
        ["ranker.name=linear", "objective.name=supervised", "light=[]"],
    )
    monkeypatch.setattr(
        "goalrank.api.retraining.recipe.load_config", lambda path=None: full(path, cut)
    )


def goalrank(words: list[str]) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, (words, done.output)
    return done.output


def served(words: list[str]) -> TestClient:
    """The server of `goalrank serve OPTION VALUE …`."""
    options = {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2])}
    settings = ServeSettings.model_validate({**options, "deadline": 30})
    return TestClient(build_app(settings), base_url="http://127.0.0.1")


def test_the_live_block(tmp_path, monkeypatch, linear):
    monkeypatch.chdir(tmp_path)
    called = live_commands()
    at = next(n for n, words in enumerate(called) if words[1] == "serve")
    assert called[:2] == [["mkdir", "-p", "live"], ["cd", "live"]]
    (tmp_path / "live").mkdir()
    monkeypatch.chdir(tmp_path / "live")
    printed = [goalrank(words[1:]) for words in called[2:at]]
    assert "100,012 events stored" in printed[-1]
    with served(called[at][2:]) as client:
        asked = [words for words in called if words[0] == "curl"]
        answers = []
        for words in asked:
            body = json.loads(words[words.index("--json") + 1])
            answer = client.post(words[2].removeprefix("127.0.0.1:8000"), json=body)
            assert answer.status_code == 200, answer.text
            answers.append((body, answer.json()))
        (sent, stored), (_, listed) = answers
        assert stored["stored"] == 1
        assert len(set(listed["items"])) == 6
        assert sent["events"][0]["item_id"] not in listed["items"]
        assert listed["state_age"] < 600
        again, promoted = (goalrank(words[1:]) for words in called[at + 3 :])
    assert "0 new requests exported from the store; those of the last 60 minutes wait" in again
    assert "version 1 is the champion" in promoted
    assert [version.state for version in ModelRegistry("models").versions()] == ["champion"]
