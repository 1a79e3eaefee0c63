"""The verbs `ab report` and `ab plan`: numbers for people and machines, faults with their remedy."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

pytest.importorskip("tea_tasting")
pytest.importorskip("sqlalchemy")

from goalrank.cli.commands.ab import _print
from goalrank.experiments import (
    Effect,
    Experiments,
    Report,
    draft_coins,
    draft_label,
    team_draft,
)
from goalrank.requests import TableInfo
from goalrank.serving import (
    Event,
    Exposure,
    Store,
)

_TOML = """
[[experiment]]
name = "split"
salt = "1"
range = [0.0, 0.6]
variants = [{ name = "a" }, { name = "b" }]
metrics = [{ name = "clicks", kind = "click" }]

[[experiment]]
name = "duel"
salt = "1"
range = [0.6, 1.0]
interleave = ["a", "b"]
variants = [{ name = "a" }, { name = "b" }]
metrics = [{ name = "clicks", kind = "click" }]
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A store in which arm b, and team b, have twice the clicks."""
    folder = tmp_path_factory.mktemp("ab")
    (folder / "e.toml").write_text(_TOML)
    experiments, rng = Experiments.read(folder / "e.toml"), np.random.default_rng(0)
    exposures, events = [], []
    for i in range(1200):
        user, request = i % 400, f"r{i}"
        label, _ = experiments.assign(user, request)
        teams, shown = [int(label == "split:b")] * 2, [0, 1]
        if duel := experiments.interleaving(user, request):
            draft = team_draft(
                np.array([[0, 1]]), np.array([[2, 0]]), draft_coins(duel.experiment, [request], 2)
            )
            shown, teams = draft.lists[0].tolist(), draft.teams[0].tolist()
            label = draft_label(duel.experiment, teams)
        time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=10 * i)
        exposures.append(Exposure(request, user, time, [7, 8, 9], shown, experiment=label))
        events += [
            Event(request, 7 + at, "click", 1.0)
            for at, team in zip(shown, teams)
            if rng.random() < 0.25 + 0.25 * team
        ]
    with Store(f"sqlite:///{folder / 's.db'}") as store:
        store.describe(TableInfo(feedback_kinds=("click",), target="click"))
        store.record(exposures)
        store.feedback(events)
    return folder


def arguments(folder, name, *more):
    store = f"sqlite:///{folder / 's.db'}"
    return ["ab", "report", name, "--experiments", folder / "e.toml", "--store", store, *more]


def test_a_report_with_and_without_peeking(goalrank, kept):
    plain = json.loads(goalrank(*arguments(kept, "split", "--json")).stdout)
    always = json.loads(goalrank(*arguments(kept, "split", "--sequential", "--json")).stdout)
    assert plain["effects"][0]["low"] > 0.3
    assert always["effects"][0]["low"] < plain["effects"][0]["low"]
    assert (plain["sequential"], always["sequential"]) == (None, 0.05)
    assert "one look" in goalrank(*arguments(kept, "split")).stdout
    words = goalrank(*arguments(kept, "split", "--sequential", "--expected-lift", 0.5)).stdout
    assert "lift of 0.5" in words


def test_too_few_users_are_said(goalrank, kept):
    early = ("--end", "2026-01-01T08:00:00")
    shown = goalrank(*arguments(kept, "split", *early)).stdout
    assert "Too few users to conclude anything (a " in shown
    assert "b serves what a serves (an A/A test)" in shown
    content = json.loads(goalrank(*arguments(kept, "split", *early, "--json")).stdout)
    assert max(content["units"].values()) < 100
    assert all(note in shown for note in content["notes"])
    assert "Too few" not in goalrank(*arguments(kept, "split")).stdout


def test_p_values_and_lifts_are_never_nothing(capsys):
    effect = Effect("m", "b", 1.0, 1.0, -1e-6, float("nan"), 0.5, 1e-9, 0.0, False)
    _print(Report("x", "a", 0.95, {"a": 9, "b": 9}, 1.0, False, 0, (effect,)))
    said = capsys.readouterr().out
    assert "lift 0.00% [–, +50.00%]  p <0.001, adjusted <0.001" in said


def test_a_duel_is_read_as_a_preference(goalrank, kept):
    result = goalrank(*arguments(kept, "duel"))
    assert result.exit_code == 0, result.output
    assert "units prefer b" in result.stdout
    content = json.loads(goalrank(*arguments(kept, "duel", "--json")).stdout)
    assert content["preferences"][0]["low"] > 0.5
    assert content["broken"] == 0
    assert goalrank(*arguments(kept, "duel", "--sequential")).exit_code == 2


def test_a_plan_from_a_log_and_from_numbers(goalrank, kept, tmp_path):
    store = f"sqlite:///{kept / 's.db'}"
    out = tmp_path / "log"
    assert goalrank("store", "export", "--store", store, "--out", out).exit_code == 0
    result = goalrank("ab", "plan", "--log", out / "train", "--lift", 0.1, "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["baseline"]["units"] == 400
    assert content["days"] == pytest.approx(content["units"] / content["baseline"]["traffic"])
    more = ("--per", "item", "--traffic", 10, "--days", 30)
    slow = json.loads(goalrank("ab", "plan", "--log", out / "train", *more, "--json").stdout)
    assert slow["units"] == 300
    words = goalrank("ab", "plan", "--mean", 2, "--sd", 3, "--traffic", 500, "--lift", 0.05)
    assert "14,129 units in each" in words.stdout  # 2 (1.96 + 0.84)² 3² / 0.1², and Student's t


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lift", 0.1], "--log, or --mean"),
        (["--mean", 1, "--sd", 1, "--traffic", 1], "exactly one"),
        (["--mean", 1, "--log", "LOG", "--lift", 0.1], "come from --log"),
        (["--log", "LOG", "--lift", 0.1, "--per", "day"], "--per"),
        (["--log", "LOG", "--lift", 0.1, "--unit", "day"], "--unit"),
        (["--log", "LOG", "--lift", 0.1, "--kind", "buy"], "buy"),
    ],
)
def test_faults_of_a_plan(goalrank, data, options, message):
    given = [data / "train.parquet" if each == "LOG" else each for each in options]
    result = goalrank("ab", "plan", *given)
    assert result.exit_code in (2, 3)
    assert message in result.stderr.replace("\n", " ")
