"""docs/data-recipes.md does what it says, where the data are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from goalrank.logs import data_root
from tests.docs.runner import run

DOCUMENT = Path(__file__).parents[2] / "docs" / "data-recipes.md"
REQUESTS = {"open-bandit": 10_000, "slantour": 21_726, "yandex": 56_477}


@pytest.mark.slow
def test_every_recipe(tmp_path, monkeypatch):
    if data_root() is None:
        pytest.skip("GOALRANK_DATA names no folder")
    monkeypatch.chdir(tmp_path)
    run(DOCUMENT)
    for name, count in REQUESTS.items():
        counts = json.loads(Path(name, "import.json").read_text())["counts"]
        assert counts["requests_placed"] == count
