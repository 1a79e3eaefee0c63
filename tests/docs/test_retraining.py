"""docs/retraining.md does what it says."""

from __future__ import annotations

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
