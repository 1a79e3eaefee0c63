"""The demo's orchestration, on tables small enough for a test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from goalrank import load
from goalrank.api import demo, run_demo
from goalrank.errors import ConfigError
from goalrank.logs import ImportResult
from goalrank.training.loop.trainer import make_trainer
from tests.api.kit import TINY
from tests.tables import make_table


def import_small(source, path=None, options=None):
    protocol = options["protocol"]
    train, validation, test = (
        make_table(60, seed=s, protocol=protocol, warning="small data") for s in range(3)
    )
    return ImportResult(train, validation, test, {"dataset": "small"})


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr("goalrank.api.demo.import_log", import_small)


@pytest.fixture
def trained(monkeypatch):
    """Names of the stages that are trained, in order."""
    names = []

    def noting(loop, validation, options):
        names.append(options.folder.name)
        return make_trainer(loop, validation, options)

    monkeypatch.setattr("goalrank.training.loop.stage.make_trainer", noting)
    return names


STAGES = ["prm", "reward-0", "goalrank", "itemwise"]


# A demo that is killed where its third stage would begin.
KILLED = """
import os, signal, sys
import goalrank.api.demo as demo
import goalrank.training.job as job
from tests.api.kit import TINY
from tests.api.test_demo import import_small

demo.import_log, run, begun = import_small, job.run_stage, []

def dying(*given):
    begun.append(given)
    if len(begun) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return run(*given)

job.run_stage = dying
demo.run_demo("kuairand", sys.argv[1], overrides=TINY, progress=False)
"""


def kill_a_demo(out: Path) -> None:
    root = Path(__file__).parents[2]
    paths = [str(root), str(root / "src"), os.environ.get("PYTHONPATH", "")]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    assert ended.returncode == -signal.SIGKILL


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


def test_several_categories_of_an_item_are_listed_with_commas():
    items = pl.DataFrame({"item_id": [7, 8], "tag": [["3", "62"], []], "year": [1990, 1991]})
    assert demo._titles(items) == {7: "Item 7, tag 3, 62", 8: "Item 8"}


def test_unknown_data_and_seeds(tmp_path):
    with pytest.raises(ConfigError, match="kuairand"):
        run_demo("netflix", tmp_path)
    with pytest.raises(ConfigError, match="--seeds"):
        run_demo("kuairand", tmp_path, seeds=0)


def test_a_killed_demo_goes_on_and_ends_with_the_same_numbers(tmp_path, small, trained):
    whole, _ = run_demo("kuairand", tmp_path / "whole", overrides=TINY, progress=False)
    assert trained == STAGES
    trained.clear()

    kill_a_demo(tmp_path / "out")
    assert not (tmp_path / "out" / "results.json").exists()
    said: list[str] = []
    went_on, _ = run_demo(
        "kuairand", tmp_path / "out", overrides=TINY, progress=False, say=said.append
    )
    assert trained == STAGES[2:]
    assert not any("importing" in text for text in said)
    taken = [text for text in said if "taken over" in text]
    assert [text.split(":")[0] for text in taken[1:]] == ["prm", "reward-0"]
    assert (whole.pop("resumed"), went_on.pop("resumed")) == (False, True)
    assert _without_times(went_on) == _without_times(whole)
    assert "since the demo went on" in (tmp_path / "out" / "report.html").read_text()

    trained.clear()  # a demo that ended is not taken for its own successor
    run_demo("kuairand", tmp_path / "out", overrides=TINY, progress=False)
    assert trained == STAGES


@pytest.mark.parametrize(
    ("given", "said_why"),
    [
        ({"overrides": [*TINY, "seed=7"]}, "differs in settings"),
        ({"dataset": "movielens-small"}, "differs in dataset"),
        ({"overwrite": True}, None),
    ],
)
def test_a_killed_demo_starts_afresh_where_it_must(tmp_path, small, trained, given, said_why):
    kill_a_demo(tmp_path)
    said: list[str] = []
    options = {"dataset": "kuairand", "overrides": TINY, **given}
    results, _ = run_demo(out=tmp_path, progress=False, say=said.append, **options)
    assert trained == STAGES
    assert not results["resumed"]
    assert any("importing" in text for text in said)
    assert any("starting afresh" in text and str(said_why) in text for text in said) == (
        said_why is not None
    )


def _without_times(results):
    """Results less what a clock says."""
    if isinstance(results, dict):
        kept = {key: value for key, value in results.items() if "second" not in key}
        return {key: _without_times(value) for key, value in kept.items()}
    return results
