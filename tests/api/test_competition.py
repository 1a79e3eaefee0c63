"""`compete`: a line-up within a budget, chosen on validation."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from goalrank.api import compete, competition, load
from goalrank.api.competition import simplest_within_error
from goalrank.cli import app
from goalrank.cli.commands.train import seconds_of
from goalrank.encoders import WideWeights
from goalrank.errors import BundleError, ConfigError, DataError
from goalrank.evaluation import Evaluation
from goalrank.evaluation.statistics.bootstrap import Resampler
from goalrank.evaluation.statistics.few_clusters import resample
from goalrank.requests import Requests
from goalrank.testing import make_requests, make_table, spec_of
from goalrank.training import FitConfig, Job, RunOptions
from goalrank.training.linear_start import LinearStart

TINY = {
    "ranker.width": 8,
    "ranker.heads": 2,
    "ranker.layers": 1,
    "reward.width": 8,
    "reward.heads": 2,
    "light_loop.steps": 4,
    "training.steps": 4,
    "reward.loop.steps": 4,
}


def evaluation(**means: float) -> Evaluation:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(len(means), 400))
    noise -= noise.mean(1, keepdims=True)
    values = {
        name: {"ndcg@6": mean + 0.1 * noise[i]} for i, (name, mean) in enumerate(means.items())
    }
    rows = np.arange(400)
    return Evaluation(
        6, "exposed", rows, 0, values, dict.fromkeys(means, 1.0), Resampler(rows, 500, 0)
    )


def test_the_simplest_within_an_error_is_chosen() -> None:
    """The error of a difference of two independent columns is 0.1 · √2 / 20 = 0.007."""
    names = ["linear", "prm", "goalrank"]
    level = evaluation(linear=0.500, prm=0.502, goalrank=0.505)
    assert simplest_within_error(level, names, "ndcg") == "linear"
    ahead = evaluation(linear=0.500, prm=0.520, goalrank=0.523)
    assert simplest_within_error(ahead, names, "ndcg") == "prm"
    far = evaluation(linear=0.500, prm=0.520, goalrank=0.560)
    assert simplest_within_error(far, names, "ndcg") == "goalrank"


@pytest.mark.parametrize(
    ("winner", "told", "more"),
    [(0.53, "exceeds", ""), (0.47, "is below", ""), (0.502, "is not told apart from", "About ")],
)
def test_the_verdict_claims_what_the_interval_shows(winner: float, told: str, more: str) -> None:
    """The half-width of a difference is 1.96 · 0.007 = 0.014."""
    both = evaluation(prm=winner, popularity=0.5)
    verdict = competition._verdict(both, "prm", "prm", "popularity", "ndcg@6", {}, choices=1)
    assert f"ndcg@6 of {winner:.3f} {told} that of the best baseline" in verdict[0]
    assert ("scored requests would tell" in " ".join(verdict)) == bool(more)


def test_the_verdict_on_one_users_requests_claims_no_error() -> None:
    level = evaluation(linear=0.5, prm=0.6, popularity=0.4)
    one = dataclasses.replace(level, resampler=resample(np.zeros(400), "user", 100, 0))
    verdict = competition._verdict(one, "linear", "prm", "popularity", "ndcg@6", {}, choices=2)
    text = " ".join(verdict)
    assert "inf" not in text
    assert "standard error" not in text
    assert (
        "is not told apart from that of the best baseline, popularity (difference +0.100, no int"
        in text
    )
    assert "prm has the highest mean and is ahead of linear by what may be chance" in text


def test_the_winner_of_four_on_validation_is_said_to_be_chosen_there() -> None:
    both = evaluation(prm=0.53, popularity=0.5)
    verdict = competition._verdict(both, "prm", "prm", "popularity", "ndcg@6", {}, choices=4)
    assert "corrected for the choice among 4 trained rankers on these requests" in verdict[0]


def test_the_winner_is_left_as_a_bundle_and_the_table_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, validation = make_table(80), make_table(60, seed=1)
    solved: list[tuple[int, bool]] = []
    solve = LinearStart._solve

    def counted(start: LinearStart, kind: int, all_known: bool) -> WideWeights:
        solved.append((kind, all_known))
        return solve(start, kind, all_known)

    monkeypatch.setattr(LinearStart, "_solve", counted)
    result = compete(
        train, validation, overrides=TINY, bootstrap=20, out=tmp_path, progress=False,
        accelerator="cpu",
    )  # fmt: skip
    assert set(result.evaluation.rankers) >= {"linear", "prm", "goalrank", "random"}
    assert result.left_out == {}
    assert len(solved) == len(set(solved)) > 0  # once for all networks
    assert f"Deploy {result.winner}" in result.verdict[0]
    written = json.loads((tmp_path / "compete.json").read_text())
    assert written["winner"] == result.winner
    assert load(tmp_path / "bundle").config.name == result.winner
    lists = load(tmp_path / "bundle").rank(validation, slots=3)
    assert lists.equals(result.model.rank(validation, slots=3))
    with pytest.raises(BundleError, match="--overwrite"):
        compete(train, validation, overrides=TINY, out=tmp_path, progress=False)


@pytest.mark.parametrize("fault", ["positives", "metric"])
def test_what_cannot_be_compared_costs_no_training(fault: str) -> None:
    train, validation = make_table(60), make_table(40, seed=1)
    if fault == "positives":
        none = pl.col("feedback").struct.field("click").list.eval(pl.element() * 0)
        frame = validation.frame.with_columns(pl.col("feedback").struct.with_fields(click=none))
        validation = Requests(frame, info=validation.info)
    said: list[str] = []
    with pytest.raises((DataError, ConfigError), match=r"has positive 'click'|'ndgc'"):
        compete(
            train, validation, metric="ndgc" if fault == "metric" else "ndcg", overrides=TINY,
            progress=False, say=said.append,
        )  # fmt: skip
    assert not any(text.startswith("training linear") for text in said)


def test_a_budget_too_short_for_networks_says_what_was_left_out() -> None:
    said: list[str] = []
    result = compete(
        make_table(60), make_table(40, seed=1), budget=5.0, overrides=TINY, bootstrap=20,
        progress=False, accelerator="cpu", say=said.append,
    )  # fmt: skip
    assert result.winner == "linear"
    assert {"lambdamart", "prm", "goalrank"} == set(result.left_out)
    assert "it needs 10" in result.left_out["prm"]
    assert any("prm was left out" in sentence for sentence in result.verdict)
    assert any("tree scores" in text for text in said)
    assert any("positives per item" in text for text in said)


def test_linear_is_left_out_where_trees_scores_are_the_only_numbers() -> None:
    spec = dataclasses.replace(spec_of(make_requests(features=2)), model_scores=2)
    job = Job(spec, make_requests(), None, FitConfig(), RunOptions(Path()))
    assert competition._obstacle("linear", job, 99.0) is None
    job.spec = dataclasses.replace(spec, has_score=False)
    assert competition._obstacle("linear", job, 99.0) == "candidates have no features"


def test_the_command_line(tmp_path: Path) -> None:
    make_table(60).write(tmp_path / "data" / "train.parquet")
    make_table(40, seed=1).write(tmp_path / "data" / "validation.parquet")
    out = str(tmp_path / "out")
    data = str(tmp_path / "data")
    run = CliRunner().invoke(
        app, ["train", data, "--compete", "--budget", "5s", "--out", out, "--json"]
    )
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["winner"] == "linear"
    for more, part in (
        (["--budget", "5s"], "--compete"),
        (["--compete", "--resume"], "--resume"),
        (["--compete", "--budget", "soon"], "'soon' is no duration"),
    ):
        run = CliRunner().invoke(app, ["train", data, "--out", out, "--overwrite", *more])
        assert run.exit_code == ConfigError.exit_code
        assert part in run.stderr


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("10m", 600.0), ("1.5h", 5400.0), ("2", 120.0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0m", "-1s", "nan", "inf", "tenm"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match="--budget"):
        seconds_of(text)
