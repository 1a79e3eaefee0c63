"""Tables, figures and the verbs that print them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from goalrank.cli import app
from goalrank.errors import ConfigError, DataError
from goalrank.studies.arena import Ledger, latex, load_leaderboards, markdown, plot, publish
from goalrank.studies.arena.figures import generators_figure
from goalrank.studies.arena.leaderboards import Leaderboard, LeaderboardRow
from goalrank.studies.common import cells


@pytest.fixture(scope="module")
def boards(finished):
    return load_leaderboards(finished[1], resamples=200)


def test_lines_are_means_over_seeds(finished, boards):
    (board,) = boards
    line = board.line("dnn")
    table = Ledger(finished[1]).read()
    values = [v for r, v in table.select("ranker", "ndcg@3").iter_rows() if r == "dnn"]
    assert line.seeds == (0, 1)
    assert line.means["ndcg@3"] == pytest.approx(np.mean(values))
    assert line.deviations["ndcg@3"] == pytest.approx(np.std(values, ddof=1))
    assert line.difference == pytest.approx(
        board.line("goalrank").means["ndcg@3"] - np.mean(values), abs=1e-6
    )
    assert math.isnan(board.line("goalrank").p_requests)
    assert 0 < line.p_requests <= 1
    assert 0 <= line.p_seeds <= 1


def test_markdown_says_what_must_be_said(boards):
    text = markdown(boards)
    assert "> **Warning:** planted data" in text
    assert "rule: " in text
    assert "†" in text
    assert "80 training, 30 validation and 60 test requests" in text
    assert "- impossible, seed 0: ConfigError" in text
    assert "- diverges, seed 1: diverged" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({row.count("|") for row in rows}) == 1
    rules = [row for row in rows if row.startswith("| rule: ")]
    assert len(rules) == 5
    assert all("†" in row for row in rules)


def test_latex_columns_agree(boards):
    body = latex(boards).split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert {line.count(" & ") for line in body} == {7 - 1}
    assert "mmr" in " ".join(body)
    assert "%" not in latex(boards).replace(r"\%", "").replace("% Warning", "")


def test_a_metric_that_was_not_measured(finished):
    with pytest.raises(ConfigError, match="was not measured"):
        load_leaderboards(finished[1], "map", 10)
    (board,) = load_leaderboards(finished[1], "recall", 10)
    assert board.metric == "recall@3"


def test_verbs(finished, tmp_path):
    run = CliRunner()
    folder = str(finished[1])
    found = run.invoke(app, ["benchmark", "table", folder, "--bootstrap", "50", "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)[0]["dataset"] == "planted"
    drawn = run.invoke(app, ["benchmark", "plot", folder, "--out", str(tmp_path)])
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "planted-rows.svg").read_text().startswith("<?xml")
    published = run.invoke(
        app, ["benchmark", "publish", folder, "--out", str(tmp_path / "p"), "--json"]
    )
    assert published.exit_code == 0, published.output
    files = {Path(path).name for path in json.loads(published.stdout)["files"]}
    assert files == {path.name for path in (tmp_path / "p").iterdir()}
    assert files == {"ledger.parquet", "suite.json", "table.md", "table.tex", "planted-rows.svg"}
    missing = run.invoke(app, ["benchmark", "table", str(tmp_path / "none")])
    assert missing.exit_code == 3


def _line(label, kind, value):
    return LeaderboardRow(
        label, kind, False, (0,), {"ndcg@6": value}, {"ndcg@6": math.nan}, (value,), {}
    )


def test_figure_of_generators_beside_the_main_row():
    lines = (
        _line("goalrank", "goalrank", 0.5),
        _line("mg_e_20", "mg_e", 0.4),
        _line("mg_e_3", "mg_e", 0.3),
    )
    board = Leaderboard("s", "d", "base", "ndcg@6", "goalrank", lines, {})
    figure = generators_figure(board, {"mg_e_3": {"k": 3}, "mg_e_20": {"k": 20}})
    drawn = {line.get_label(): line.get_data() for line in figure.axes[0].lines}
    assert list(drawn["MG-E, different generators"][0]) == [3, 20]
    assert list(drawn["MG-E, different generators"][1]) == pytest.approx([30, 40])
    assert list(drawn["goalrank"][1]) == [50, 50]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["3", "20"]
    assert (
        generators_figure(Leaderboard("s", "d", "base", "ndcg@6", "goalrank", lines[:1], {}), {})
        is None
    )


def test_plot_writes_every_board(finished, tmp_path):
    files = plot(finished[1], tmp_path)
    assert [f.name for f in files] == ["planted-rows.svg"]


def test_published_is_what_the_folder_says(finished, tmp_path):
    publish(finished[1], tmp_path, 50)
    rows, there = pl.read_parquet(tmp_path / "ledger.parquet"), Ledger(finished[1]).read()
    assert sorted(rows["key"]) == sorted(there["key"])
    assert rows.columns == there.columns
    assert (tmp_path / "table.md").read_text() == markdown(load_leaderboards(finished[1], None, 50))
    assert (tmp_path / "suite.json").read_bytes() == (finished[1] / "suite.json").read_bytes()
    with pytest.raises(DataError):
        publish(tmp_path, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_later_version_reads_what_was_measured(finished, monkeypatch):
    before = markdown(load_leaderboards(finished[1], None, 50))
    monkeypatch.setattr(cells, "digest", lambda _: "of-other-settings")
    assert markdown(load_leaderboards(finished[1], None, 50)) == before


def test_a_kind_of_generators_has_one_colour_whatever_leads():
    lines = [
        _line("goalrank", "goalrank", 0.5),
        _line("mg_e_20", "mg_e", 0.4),
        _line("mg_e_copies_20", "mg_e_copies", 0.3),
        _line("clig_20", "clig", 0.2),
    ]
    settings = {line.label: {"k": 20} for line in lines[1:]}

    def colours(order):
        board = Leaderboard("s", "d", "base", "ndcg@6", "goalrank", tuple(order), {})
        axes = generators_figure(board, settings).axes[0]
        return {line.get_label(): line.get_color() for line in axes.lines}

    assert colours(lines) == colours(lines[::-1])
