"""The demo's orchestration, on tables small enough for a test."""

from __future__ import annotations

import json

import numpy as np
import pytest

from goalrank import load
from goalrank.api import run_demo
from goalrank.errors import ConfigError
from goalrank.logs import ImportResult
from tests.api.kit import TINY
from tests.tables import make_table


@pytest.fixture
def small(monkeypatch):
    def import_log(source, path=None, options=None):
        protocol = options["protocol"]
        train, validation, test = (
            make_table(60, seed=s, protocol=protocol, warning="small data") for s in range(3)
        )
        return ImportResult(train, validation, test, {"dataset": "small"})

    monkeypatch.setattr("goalrank.api.demo.import_log", import_log)


@pytest.mark.parametrize("dataset", ["kuairand", "movielens-small"])
def test_what_the_demo_leaves(tmp_path, small, dataset):
    said: list[str] = []
    results, card = run_demo(
        dataset, tmp_path / "out", seeds=2, overrides=TINY, progress=False, say=said.append
    )
    out = tmp_path / "out"
    assert json.loads((out / "results.json").read_text()) == json.loads(json.dumps(results))
    assert set(results["rankers"]) == {"retriever", "popularity", "prm", "best_of_100", "goalrank"}
    assert results["seeds"] == [0, 1]
    assert results["protocol"] == ("exposed" if dataset == "kuairand" else "retrieved")
    cell = results["rankers"]["goalrank"]["ndcg@3"]
    assert cell["low"] <= cell["mean"] <= cell["high"]
    assert cell["mean"] == pytest.approx(np.mean(cell["per_seed"]))
    assert len(cell["per_seed"]) == 2  # equal where both keep their linear start
    assert results["audit"]["verdict"]
    assert results["audit"]["best_baseline"] in results["baselines"]
    assert {"click", "long"} == set(results["reward_model"]["kinds"])
    assert len(results["reward_model"]["per_seed"]) == 2
    assert {"import", "prm", "reward-0", "goalrank", "evaluation", "total"} <= set(
        results["seconds"]
    )
    page = (out / "report.html").read_text()
    assert page.count('<details class="move">') == 5
    assert card.audit.comparison is not None
    assert next(iter(card.audit.comparison.lines.values())) in page
    assert "small data" in page
    assert load(out).rank(make_table(5, seed=9)).height == 5
    assert any("seed 1" in text for text in said)
    assert card.warning == "small data"
    assert (out / "data" / "test.parquet").exists()


def test_demo_can_be_run_again_in_the_same_place(tmp_path, small):
    for _ in range(2):
        run_demo("kuairand", tmp_path, overrides=TINY, progress=False)
    assert (tmp_path / "results.json").exists()


def test_unknown_data_and_seeds(tmp_path):
    with pytest.raises(ConfigError, match="kuairand"):
        run_demo("netflix", tmp_path)
    with pytest.raises(ConfigError, match="--seeds"):
        run_demo("kuairand", tmp_path, seeds=0)
