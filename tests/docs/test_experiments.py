"""docs/experiments.md does what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.docs.runner import run

pytest.importorskip("tea_tasting")
pytest.importorskip("sqlalchemy")
DOCUMENT = Path(__file__).parents[2] / "docs" / "experiments.md"


@pytest.mark.slow
def test_every_command_of_the_document(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(DOCUMENT)
    verbs = [" ".join(command.split()[1:3]) for command in done if command.startswith("goalrank")]
    assert verbs.count("ab report") == 4
    assert verbs.count("ab plan") == 2
    assert "ope --bundle" in verbs
    found = json.loads(Path("ope.json").read_text())
    assert set(found["estimates"]) >= {"ips", "snips", "clipped", "dr", "position-ips"}
