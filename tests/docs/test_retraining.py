"""docs/retraining.md does what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from goalrank.models import ModelRegistry
from tests.docs.runner import outputs

pytest.importorskip("tea_tasting")
pytest.importorskip("sqlalchemy")
DOCUMENT = Path(__file__).parents[2] / "docs" / "retraining.md"


def test_every_command_of_the_document(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = list(outputs(DOCUMENT))
    verbs = [
        " ".join(command.split()[1:3]) for command, _ in done if command.startswith("goalrank")
    ]
    assert verbs.count("retrain --data") == 3
    assert "models check" in verbs
    registry = ModelRegistry("models")
    assert [version.state for version in registry.versions()] == ["retired", "champion", "refused"]
    assert [move.kind for move in registry.history().moves] == [
        "promote", "promote", "rollback", "promote",
    ]  # fmt: skip
    assert "REFUSED lead over chance: 2022-05-0" in "".join(printed for _, printed in done)


def test_the_table_of_the_two_weeks_is_that_of_the_results():
    folder = DOCUMENT.parents[1] / "results" / "live"
    text = DOCUMENT.read_text(encoding="utf-8")
    assert (folder / "table.md").read_text(encoding="utf-8") in text
    for path in folder.glob("seed-*.json"):
        seed = json.loads(path.read_text(encoding="utf-8"))
        poisoned = seed["days"][seed["poisoned"] - 1]["night"]
        assert poisoned["outcome"] == "refused"
        assert seed["moves"].count("rollback") == 1
        assert set(seed["degraded"].values()) == {0}
