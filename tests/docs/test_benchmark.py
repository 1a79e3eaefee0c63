"""docs/benchmark.md: the card's command does what the page says."""

from __future__ import annotations

import json

import pytest

from tests.docs.runner import ROOT, run


@pytest.mark.slow
def test_the_card_of_the_document(tmp_path, monkeypatch):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    done = run(ROOT / "docs" / "benchmark.md", keep=lambda c: "benchmark card" in c)
    assert len(done) == 1
    card = json.loads((tmp_path / "runs" / "card" / "card.json").read_text())
    assert card["ranker"]["label"] == "din"
    assert card["result"]["seeds"] == [0, 1]
    rows = [row["row"] for row in card["beside"]["rows"]]
    assert "dnn" in rows
    assert any(row.startswith("baseline: ") for row in rows)
    assert set(card["board"]["tables"]) == {"train", "validation", "test"}
