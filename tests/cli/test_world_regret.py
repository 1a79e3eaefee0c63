"""From one sampled file to a regret table by verbs alone."""

from __future__ import annotations

import json
from pathlib import Path

from goalrank.cli.tables import read_training
from goalrank.requests import Requests

_WORLD = Path(__file__).parents[2] / "configs" / "worlds" / "tiny.toml"


def test_sample_train_evaluate(goalrank, tiny, tmp_path):
    table = tmp_path / "w.parquet"
    assert goalrank("world", "sample", _WORLD, "--requests", 60, "--out", table).exit_code == 0
    result = goalrank("train", table, "--out", tmp_path / "run", *tiny)
    assert result.exit_code == 0, result.output
    assert "last 3 of its 60 requests by time" in result.output
    judge = ("evaluate", "--bundle", tmp_path / "run", "--data", table, "--world", _WORLD)
    result = goalrank(*judge, "--limit", 20, "--bootstrap", 10, "--json")
    assert result.exit_code == 0, result.output
    card = json.loads(result.stdout)
    assert card["requests"] == 20
    assert card["rows"]["near-optimum"]["regret"]["mean"] == 0
    assert "goalrank" in card["parts"]
    result = goalrank(*judge, "--limit", 20, "--bootstrap", 10)
    assert "true pointwise sort" in result.stdout
    refused = goalrank(*judge, "--slots", 3)
    assert refused.exit_code == 2
    assert "--slots" in refused.output

    # A second round, filled by the ranker: other requests, later, with its own propensities.
    second = tmp_path / "second.parquet"
    again = ("world", "sample", _WORLD, "--requests", 60, "--first", 60, "--out", second)
    assert goalrank(*again, "--policy", tmp_path / "run", "--explore", 0.5).exit_code == 0
    before, after = Requests.read(table).frame, Requests.read(second).frame
    assert after["policy"].unique().to_list() == ["goalrank"]
    assert before["time"].to_numpy().max() < after["time"].to_numpy().min()
    assert before["user_id"].to_list() != after["user_id"].to_list()
    wrong = goalrank(*again, "--policy", tmp_path / "run", "--explore", 2)
    assert wrong.exit_code == 2
    assert "explore=2" in wrong.output
    alone = goalrank(*again, "--temperature", 0.5)
    assert alone.exit_code == 2
    assert "(option: --policy)" in alone.output

    shards = tmp_path / "shards"
    sample = ("world", "sample", _WORLD, "--requests", 60, "--out", shards)
    assert goalrank(*sample).exit_code == 0
    train, validation, _ = read_training(shards)
    assert validation is not None
    assert (len(train), len(validation)) == (57, 3)
    assert train.frame["time"].to_numpy().max() <= validation.frame["time"].to_numpy().min()
