"""Tables, figures and the verbs that print them."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from goalrank.cli import app
from goalrank.errors import ConfigError, DataError, RenamedSettingWarning
from goalrank.evaluation import evaluate
from goalrank.rankers import RetrieverOrder
from goalrank.studies.arena import (
    Ledger,
    latex,
    load_leaderboards,
    markdown,
    plot,
    publish,
    stored_suite,
    verdict,
)
from goalrank.studies.arena.figures import _settings, generators_figure
from goalrank.studies.arena.leaderboards import Leaderboard, LeaderboardRow
from goalrank.studies.common import cells, load_data

PUBLISHED = sorted(
    path.parent for path in (Path(__file__).parents[3] / "results").glob("*/ledger.parquet")
)


@pytest.fixture(scope="module")
def leaderboards(finished):
    return load_leaderboards(finished[1])


def test_rows_are_means_over_seeds(finished, leaderboards):
    (leaderboard,) = leaderboards
    row = leaderboard.row("dnn")
    table = Ledger(finished[1]).read()
    values = [v for r, v in table.select("ranker", "ndcg@3").iter_rows() if r == "dnn"]
    assert row.seeds == (0, 1)
    assert row.means["ndcg@3"] == pytest.approx(np.mean(values))
    assert row.deviations["ndcg@3"] == pytest.approx(np.std(values, ddof=1))
    assert row.difference == pytest.approx(
        leaderboard.row("goalrank").means["ndcg@3"] - np.mean(values), abs=1e-6
    )
    assert math.isnan(leaderboard.row("goalrank").p)
    assert 0 < row.p <= 1
    assert row.compared == 2
    assert row.low <= row.difference <= row.high


def test_what_validation_says_stands_beside_the_test(finished, leaderboards, tmp_path):
    suite, folder = finished
    (leaderboard,) = leaderboards
    held = load_data(folder, suite.datasets[0], suite.encoding(suite.rankers[0])).validation
    order = {"order": RetrieverOrder()}
    found = evaluate(order, held, slots=3, metrics=["ndcg"])
    wanted = found.values["order"]["ndcg@3"].mean()
    rows = Ledger(folder).read().filter(status="ok")
    [row] = rows.filter(ranker="baseline: retriever order").iter_rows(named=True)
    assert row["validation"] == pytest.approx(wanted)
    assert row["validation"] != pytest.approx(row["ndcg@3"])
    dnn = leaderboard.row("dnn").on_validation
    assert dnn == pytest.approx(rows.filter(ranker="dnn")["validation"].mean())
    head, _, *lines = [x for x in markdown([leaderboard]).splitlines() if x.startswith("|")]
    at = head.split("|").index(" on validation ")
    cell = next(line for line in lines if line.startswith("| dnn |")).split("|")[at]
    assert cell.strip() == f"{100 * dnn:.2f}"
    assert all(math.isnan(r.on_validation) for r in load_leaderboards(folder, "recall")[0].rows)

    older = tmp_path / "older"
    shutil.copytree(folder, older)
    for path in (older / "ledger").glob("*.parquet"):
        found = pq.read_table(path)
        if "validation" in found.column_names:  # cells that failed have none
            pq.write_table(found.drop_columns(["validation"]), path)
    assert "| on validation |" not in markdown(load_leaderboards(older))


def _on_other_tables(folder: Path, cells: str, part: str = "train") -> None:
    """Let the ledger say that some cells stand on another table."""
    for path in (folder / "ledger").glob(cells):
        table = pq.read_table(path)
        tables = json.dumps({**json.loads(table["tables"][0].as_py()), part: "0" * 64})
        at = table.column_names.index("tables")
        pq.write_table(table.set_column(at, "tables", [[tables] * len(table)]), path)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ("*.dnn.*", "; dnn (seed 0, 1))"),
        ("*.dnn.1.*", "; dnn (seed 1))"),
        ("*.baselines.*", "(baselines (seed 0); best_of_5"),
    ],
)
def test_rows_on_different_tables_are_named_and_not_compared(finished, tmp_path, cells, said):
    """As in a folder whose import another version made, or whose tables were replaced."""
    folder = tmp_path / "mixed"
    shutil.copytree(finished[1], folder)
    before = load_leaderboards(folder)[0].warnings
    _on_other_tables(folder, cells)
    (leaderboard,) = load_leaderboards(folder)
    *told, warning = leaderboard.warnings
    assert tuple(told) == before
    assert "do not compare" in warning
    assert said in warning
    assert "remedy" in warning
    assert all(math.isnan(row.difference) for row in leaderboard.rows)
    assert "points" not in verdict(leaderboard)


def test_cells_of_other_numbers_of_requests_are_refused(finished, tmp_path):
    """In a ledger without hashes of the tables, numbers alone tell them apart."""
    folder = tmp_path / "older"
    shutil.copytree(finished[1], folder)
    for path in (folder / "ledger").glob("*.parquet"):
        found = pq.read_table(path)
        if "tables" in found.column_names:
            pq.write_table(found.drop_columns(["tables"]), path)
    for path in (folder / "values").glob("*.goalrank.1.*"):
        pl.read_parquet(path)[:-1].write_parquet(path)
    with pytest.raises(DataError, match=r"requests; remedy: run the suite again"):
        load_leaderboards(folder)


def test_a_row_of_one_seed_claims_nothing_about_methods(finished, tmp_path):
    suite, folder = finished
    shutil.copytree(folder, tmp_path / "less")
    last = next(c for c in cells.plan_cells(suite) if (c.row.label, c.seed) == ("dnn", 1))
    Ledger(tmp_path / "less").forget(last)
    (leaderboard,) = load_leaderboards(tmp_path / "less")
    row = leaderboard.row("dnn")
    assert row is not None
    assert row.compared == 1
    assert math.isnan(row.p)
    text = markdown([leaderboard])
    assert "‡ one seed: the interval is over users alone" in text
    line = next(line for line in text.splitlines() if line.startswith("| dnn "))
    assert "] ‡ | – |" in line
    assert (
        "Fewer seeds than others: dnn. A difference is over the seeds that both rows have" in text
    )
    said = verdict(_compared(low=0.001, high=0.002, compared=1))
    assert "one seed: this says nothing about the methods" in said


def _compared(compared=3, **changes):
    rival = replace(_row("prm", "prm", 0.5), compared=compared, difference=0.001, p=0.4, **changes)
    main = _row("goalrank", "goalrank", 0.501)
    return Leaderboard("s", "d", "base", "ndcg@6", "goalrank", (main, rival), {}, rival="prm")


def test_level_is_said_where_the_whole_interval_is_small():
    near = verdict(_compared(low=-0.001, high=0.0029))
    assert "level with the best rival, prm (50.00; difference +0.10 [-0.10, +0.29]" in near
    assert "within ± 0.3" in near
    wide = verdict(_compared(low=-0.001, high=0.0031))
    assert "0.10 points above the best rival" in wide
    assert "p = 0.400 over 3 seeds and the users" in wide


def test_rows_without_a_difference_are_neither_above_nor_below():
    same = verdict(_compared(low=0.0, high=0.0, compared=1))
    assert "equal on every scored request to the best rival, prm (50.00; no difference)" in same
    assert "below" not in same


def test_a_small_p_is_not_printed_as_more_than_it_is():
    board = _compared(low=0.0001, high=0.005)
    tiny = replace(board, rows=(board.rows[0], replace(board.rows[1], p=3e-7)))
    assert "p ≤ 0.0001 over 3 seeds" in verdict(tiny)
    some = replace(board, rows=(board.rows[0], replace(board.rows[1], p=0.00034)))
    assert "p = 0.0003 over 3 seeds" in verdict(some)


def test_markdown_says_what_must_be_said(leaderboards):
    text = markdown(leaderboards)
    assert "> **Warning:** planted data" in text
    assert "baseline: " in text
    assert "†" in text
    assert "80 training, 30 validation and 60 test requests" in text
    assert "- impossible, seed 0: ConfigError" in text
    assert "- diverges, seed 1: diverged" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({row.count("|") for row in rows}) == 1
    baselines = [row for row in rows if row.startswith("| baseline: ")]
    assert len(baselines) == 5
    assert all("†" in row for row in baselines)


def test_latex_columns_agree(leaderboards):
    body = latex(leaderboards).split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert {line.count(" & ") for line in body} == {6 - 1}
    assert "mmr" in " ".join(body)
    assert "%" not in latex(leaderboards).replace(r"\%", "").replace("% Warning", "")


def test_latex_has_no_characters_that_pdflatex_refuses(leaderboards):
    (board,) = leaderboards
    rows = tuple(replace(row, p=1e-9, compared=1) for row in board.rows)
    text = latex([replace(board, rows=rows)])
    assert r"$\leq$0.0001" in text
    assert r"$\ddagger$" in text
    assert text.isascii()


def test_a_metric_that_was_not_measured(finished):
    with pytest.raises(ConfigError, match="was not measured"):
        load_leaderboards(finished[1], "map")
    with pytest.raises(ConfigError, match="did you mean 'recall'"):
        load_leaderboards(finished[1], "recal")
    (leaderboard,) = load_leaderboards(finished[1], "recall")
    assert leaderboard.metric == "recall@3"


def test_verbs(finished, tmp_path):
    run = CliRunner()
    folder = str(finished[1])
    found = run.invoke(app, ["benchmark", "table", folder, "--json"])
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


def _row(label, kind, value):
    return LeaderboardRow(
        label, kind, False, (0,), {"ndcg@6": value}, {"ndcg@6": math.nan}, (value,), {}
    )


def test_figure_of_generators_beside_the_main_row():
    lines = (
        _row("goalrank", "goalrank", 0.5),
        _row("mg_e_20", "mg_e", 0.4),
        _row("mg_e_3", "mg_e", 0.3),
    )
    leaderboard = Leaderboard("s", "d", "base", "ndcg@6", "goalrank", lines, {})
    figure = generators_figure(leaderboard, {"mg_e_3": {"k": 3}, "mg_e_20": {"k": 20}})
    drawn = {line.get_label(): line.get_data() for line in figure.axes[0].lines}
    assert list(drawn["MG-E, different generators"][0]) == [3, 20]
    assert list(drawn["MG-E, different generators"][1]) == pytest.approx([30, 40])
    assert list(drawn["goalrank"][1]) == [50, 50]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["3", "20"]
    assert (
        generators_figure(Leaderboard("s", "d", "base", "ndcg@6", "goalrank", lines[:1], {}), {})
        is None
    )


def test_a_table_says_which_rows_kept_the_start(leaderboards):
    board = leaderboards[0]
    rows = tuple(replace(row, as_begun=int(row.label == "goalrank")) for row in board.rows)
    text = markdown([replace(board, rows=rows)])
    assert "not better on validation: goalrank (1 of 2). In one seed" in text
    none = tuple(replace(row, as_begun=0) for row in rows)
    assert "Kept the model" not in markdown([replace(board, rows=none)])


def test_cells_that_do_not_say_whether_they_kept_the_start_are_not_counted(finished, tmp_path):
    folder = tmp_path / "partly"
    shutil.copytree(finished[1], folder)

    def counted() -> tuple[int, int]:
        [row] = [row for row in load_leaderboards(folder)[0].rows if row.label == "dnn"]
        return row.as_begun_of, len(row.seeds)

    assert counted() == (2, 2)
    [older] = (folder / "ledger").glob("*.dnn.0.*")
    pq.write_table(pq.read_table(older).drop_columns(["kept"]), older)
    assert counted() == (1, 2)


def test_plot_writes_every_board(finished, tmp_path):
    files = plot(finished[1], tmp_path)
    assert [f.name for f in files] == ["planted-rows.svg"]


def test_published_is_what_the_folder_says(finished, tmp_path):
    publish(finished[1], tmp_path)
    rows, there = pl.read_parquet(tmp_path / "ledger.parquet"), Ledger(finished[1]).read()
    assert sorted(rows["key"]) == sorted(there["key"])
    assert rows.columns == there.columns
    assert (tmp_path / "table.md").read_text() == markdown(load_leaderboards(finished[1]))
    assert (tmp_path / "suite.json").read_bytes() == (finished[1] / "suite.json").read_bytes()
    with pytest.raises(DataError):
        publish(tmp_path, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_later_version_reads_what_was_measured(finished, monkeypatch):
    before = markdown(load_leaderboards(finished[1]))
    monkeypatch.setattr(cells, "json_hash", lambda _: "of-other-settings")
    assert markdown(load_leaderboards(finished[1])) == before


def _in_format_1(folder: Path, out: Path) -> Path:
    """A finished folder as the first format had it: baselines are called rules."""
    shutil.copytree(folder, out)
    for path in (out / "ledger").glob("*.parquet"):
        rows = pl.read_parquet(path).rename({"baseline": "rule"})
        old = pl.col("ranker").str.replace("^baseline: ", "rule: ")
        table = rows.with_columns(kind=pl.col("kind").replace("baselines", "rules"), ranker=old)
        pq.write_table(table.to_arrow().replace_schema_metadata({b"goalrank.ledger": b"1"}), path)
    content = json.loads((out / "suite.json").read_text())
    for row in content["suite"]["rankers"]:
        if row["name"] == "baselines":
            row |= {"name": "rules", "label": "rules"}
    (out / "suite.json").write_text(json.dumps({**content, "version": 1}))
    return out


def test_a_folder_of_the_first_format_gives_the_same_tables(finished, tmp_path, recwarn):
    old = _in_format_1(finished[1], tmp_path / "old")
    assert "rule" in pl.read_parquet(next((old / "ledger").glob("*.parquet"))).columns
    assert repr(load_leaderboards(old)) == repr(load_leaderboards(finished[1]))
    assert not [each for each in recwarn if issubclass(each.category, RenamedSettingWarning)]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.name)
def test_published_ledgers_are_read_under_the_names_of_today(path, tmp_path):
    """Files of results/ stay as they were published."""
    rows = pl.read_parquet(path / "ledger.parquet")
    (tmp_path / "ledger").mkdir()
    for (key,), part in rows.group_by("key"):
        meta = {b"goalrank.ledger": b"1"}
        file = tmp_path / "ledger" / f"{key}.parquet"
        pq.write_table(part.to_arrow().replace_schema_metadata(meta), file)
    read = Ledger(tmp_path).read().sort("key", "ranker")
    before = rows.sort("key", "ranker")
    if "rule" in before.columns:
        before = before.rename({"rule": "baseline"})
    assert read["baseline"].to_list() == before["baseline"].to_list()
    assert read.filter("baseline")["kind"].unique().to_list() == ["baselines"]
    assert read.filter("baseline")["ranker"].str.starts_with("baseline: ").all()
    assert read.filter(~pl.col("baseline"))["ranker"].equals(
        before.filter(~pl.col("baseline"))["ranker"]
    )
    assert {row.name for row in stored_suite(path).rankers} >= {"goalrank", "baselines"}


def test_a_kind_of_generators_has_one_colour_whatever_leads():
    lines = [
        _row("goalrank", "goalrank", 0.5),
        _row("mg_e_20", "mg_e", 0.4),
        _row("mg_e_copies_20", "mg_e_copies", 0.3),
        _row("clig_20", "clig", 0.2),
    ]
    settings = {line.label: {"k": 20} for line in lines[1:]}

    def colours(order):
        leaderboard = Leaderboard("s", "d", "base", "ndcg@6", "goalrank", tuple(order), {})
        axes = generators_figure(leaderboard, settings).axes[0]
        return {line.get_label(): line.get_color() for line in axes.lines}

    assert colours(lines) == colours(lines[::-1])


def test_a_table_of_baselines_alone_speaks_of_no_seeds_and_no_tests(finished):
    (board,) = load_leaderboards(finished[1])
    rows = tuple(
        replace(row, difference=math.nan, compared=0) for row in board.rows if row.baseline
    )
    text = markdown([replace(board, rows=rows)])
    assert "seed" not in text.partition("left out. ")[2].partition("Run on")[0]
    assert "Intervals and p" not in text
    assert "Intervals and p are over seeds and users together" in markdown([board])


def test_figures_take_settings_of_the_suites_cells_alone(finished, tmp_path):
    """A row whose k was changed leaves its old cells in the folder."""
    folder = tmp_path / "grown"
    shutil.copytree(finished[1], folder)
    [path, _] = sorted((folder / "ledger").glob("*.dnn.*"))
    table = pq.read_table(path)
    at = table.column_names.index("row_settings")
    settings = json.dumps({**json.loads(table["row_settings"][0].as_py()), "options": {"k": 9}})
    old = table.set_column(at, "row_settings", [[settings]])
    for name in ("0-before", "z-before"):
        pq.write_table(old, folder / "ledger" / f"{name}.parquet")
    for _ in range(5):
        assert _settings(folder)["dnn"] == {}
