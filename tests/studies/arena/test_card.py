"""The card: one command, a row tested against the suite's own, and against published rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from scipy import stats
from typer.testing import CliRunner

from goalrank.cli import app
from goalrank.errors import ConfigError, DataError
from goalrank.evaluation import over_seeds_and_users
from goalrank.requests import Requests, table_digest
from goalrank.studies.arena import Ledger, card, card_suite, make_card, publish
from goalrank.studies.arena.card_text import card_markdown
from goalrank.studies.arena.committed import MEANS_ALONE, ONE_SEED, PAIRED, SEEDS_ALONE, _welch
from goalrank.studies.arena.ledger import failure
from goalrank.studies.arena.run_cell import run_cell
from goalrank.studies.arena.runner import store_suite, stored_plan
from goalrank.studies.common import Suite, plan_cells
from tests.studies.arena.kit import RECIPE, make_suite

PLUGGED = "tests.studies.arena.plugged:Scaled"
DICE = "tests.studies.arena.plugged:Dice"


def run_here(suite: Suite, folder: Path, **_: object) -> None:
    """`run_suite` in this process."""
    store_suite(suite, folder)
    for cell in plan_cells(suite):
        if not Ledger(folder).has(cell):
            run_cell(suite, cell, folder, "cpu")


def toml(value: object) -> str:
    """A value as inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


@pytest.fixture(scope="module")
def published(run, tmp_path_factory) -> Path:
    """The card's own run, published: its row differs from itself by nothing."""
    out = tmp_path_factory.mktemp("published")
    publish(run, out)
    return out


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """A card of a row whose two seeds differ, beside the baselines and mmr."""
    folder = tmp_path_factory.mktemp("card")
    suite = card_suite(make_suite(data), DICE, beside=["mmr"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(card, "run_suite", run_here)
        make_card(suite, folder)
    return folder


def test_one_command_makes_a_card_of_a_plug_in(data, tmp_path, monkeypatch):
    monkeypatch.setattr(card, "run_suite", run_here)
    dataset = {"name": "planted", "source": "requests", "path": str(data)}
    settings = {
        "name": "mini", "slots": 3, "seeds": [0, 1], "metrics": ["ndcg", "recall"],
        "rankers": ["dnn", "goalrank", "baselines"], "datasets": [dataset], "recipe": RECIPE,
    }  # fmt: skip
    lines = [f"{name} = {toml(value)}" for name, value in settings.items()]
    (tmp_path / "mini.toml").write_text("\n".join(lines))
    command = f"benchmark card {tmp_path}/mini.toml {PLUGGED} --beside dnn --option scale=2.0"
    done = CliRunner().invoke(app, [*command.split(), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "# Scaled on mini, planted" in done.output
    made = json.loads((tmp_path / "out" / "card.json").read_text())
    assert made["ranker"]["class"] == PLUGGED
    assert made["ranker"]["options"] == {"scale": 2.0}
    assert made["ranker"]["packages"] == ["tests"]
    assert made["result"]["seeds"] == [0, 1]
    assert made["result"]["seconds"] > 0
    rows = [row["row"] for row in made["beside"]["rows"]]
    assert "dnn" in rows
    assert any(row.startswith("baseline: ") for row in rows)
    for name in ("train", "validation", "test"):
        digest = table_digest(Requests.read(data / f"{name}.parquet"))
        assert made["board"]["tables"][name] == digest
        assert digest in (tmp_path / "out" / "card.md").read_text()


def test_the_interval_holds_seeds_and_users(run):
    made = json.loads((run / "card.json").read_text())
    ledger = Ledger(run)
    keys = ledger.read().filter(pl.col("ranker") == "Dice").sort("seed")["key"]
    found = [ledger.values(key) for key in keys]
    values = np.stack([each.columns["Dice"]["ndcg@3"] for each in found])
    want = over_seeds_and_users(values, np.zeros_like(values), found[0].users)
    assert want.seed_error > 0
    assert made["result"]["value"] == pytest.approx(want.mean)
    assert made["result"]["low"] == pytest.approx(want.low)
    assert made["result"]["high"] == pytest.approx(want.high)
    [mmr] = [row for row in made["beside"]["rows"] if row["row"] == "mmr"]
    assert mmr["difference"] == pytest.approx(
        made["result"]["means"]["ndcg@3"] - mmr["mean"], abs=1e-6
    )


def test_published_rows_without_values_are_compared_by_seeds(run, published):
    found = card.read_card(run, published)["published"]
    assert found["split"] == "the same tables, by their hashes"
    assert {row["how"] for row in found["rows"]} == {SEEDS_ALONE}
    [same] = [row for row in found["rows"] if row["row"] == "Dice"]
    assert same["difference"] == 0
    assert same["low"] < 0 < same["high"]


def test_welch_over_seeds_is_that_of_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 3), rng.normal(1, 3, 5)
    for found, want in (
        (_welch(a, b, False), stats.ttest_ind(a, b, equal_var=False)),
        (_welch(a, b[:1], True), stats.ttest_1samp(a, b[0])),
    ):
        assert found[2] == pytest.approx(want.pvalue)
        width = want.confidence_interval(0.95)
        assert found[1] - found[0] == pytest.approx(width.high - width.low)


def test_published_values_are_compared_request_by_request(run, published, tmp_path):
    whole = tmp_path / "whole"
    shutil.copytree(published, whole)
    shutil.copytree(run / "values", whole / "values")
    found = card.read_card(run, whole)["published"]
    assert {row["how"] for row in found["rows"]} == {PAIRED}
    rows = {row["row"]: row for row in found["rows"]}
    assert (rows["Dice"]["difference"], rows["Dice"]["low"], rows["Dice"]["p"]) == (
        0.0,
        0.0,
        1.0,
    )
    beside = {row["row"]: row for row in card.read_card(run, None)["beside"]["rows"]}
    for name in ("mmr", "baseline: random"):
        if name in beside:
            assert rows[name]["low"] == pytest.approx(beside[name]["low"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tables": '{"test": "0"}'}, "hashes of the tables differ"),
        ({"requests_test": 7}, "requests_test 7 there, 60 here"),
        ({"dataset": "other"}, "no row of data set 'planted'"),
        ({"size": "huge", "baseline": False}, "no row of data set 'planted'"),
        ({"tables": "{broken"}, "hashes of its tables cannot be read"),
    ],
)
def test_another_board_is_not_compared(run, published, tmp_path, change, words):
    rows = pl.read_parquet(published / "ledger.parquet")
    changed = rows.with_columns(**{k: pl.lit(v).cast(rows.schema[k]) for k, v in change.items()})
    changed.write_parquet(tmp_path / "ledger.parquet")
    found = card.read_card(run, tmp_path)["published"]
    assert words in found["split"]
    assert found["rows"] == []


def test_every_published_row_must_be_of_the_board(run, published, tmp_path):
    """One row of other tables among them, and not the first one."""
    rows = pl.read_parquet(published / "ledger.parquet")
    last = [*rows["tables"].to_list()[:-1], '{"test": "0"}']
    rows.with_columns(tables=pl.Series(last)).write_parquet(tmp_path / "ledger.parquet")
    found = card.read_card(run, tmp_path)["published"]
    assert "hashes of the tables differ" in found["split"]
    assert found["rows"] == []


def test_rows_of_another_size_are_other_rows(run, published, tmp_path):
    rows = pl.read_parquet(published / "ledger.parquet")
    trained = rows.filter(~pl.col("baseline"))
    wide = trained.with_columns(size=pl.lit("wide"), **{"ndcg@3": pl.lit(0.999)})
    pl.concat([rows, wide]).write_parquet(tmp_path / "ledger.parquet")
    found = card.read_card(run, tmp_path)["published"]
    assert found["rows"] == card.read_card(run, published)["published"]["rows"]


def test_a_row_without_the_metric_is_not_compared(run, published, tmp_path):
    rows = pl.read_parquet(published / "ledger.parquet")
    metric = pl.when(pl.col("ranker") != "mmr").then(pl.col("ndcg@3"))
    rows.with_columns(metric.alias("ndcg@3")).write_parquet(tmp_path / "ledger.parquet")
    labels = [row["row"] for row in card.read_card(run, tmp_path)["published"]["rows"]]
    assert "mmr" not in labels
    assert "Dice" in labels


@pytest.mark.parametrize("own", [True, False])
def test_values_that_are_not_those_of_the_ledger_are_refused(run, published, tmp_path, own):
    folder, other = tmp_path / "run", tmp_path / "published"
    shutil.copytree(run, folder)
    shutil.copytree(published, other)
    shutil.copytree(run / "values", other / "values")
    key = Ledger(run).read().filter(pl.col("ranker") == "Dice")["key"][0]
    path = (folder if own else other) / "values" / f"{key}.parquet"
    pl.read_parquet(path).with_columns(pl.col("Dice\tndcg@3") * 0 + 1).write_parquet(path)
    with pytest.raises(DataError, match=r"ndcg@3 1\.000000 for 'Dice' and the ledger.*remedy"):
        card.read_card(folder, other)


def test_one_published_seed_tests_nothing_and_says_so(run, published, tmp_path):
    shutil.copytree(run / "values", tmp_path / "values")
    rows = pl.read_parquet(published / "ledger.parquet")
    rows.filter(pl.col("seed") == 0).write_parquet(tmp_path / "ledger.parquet")
    rows = card.read_card(run, tmp_path)["published"]["rows"]
    [dice] = [row for row in rows if row["row"] == "Dice"]
    assert dice["how"] == ONE_SEED
    assert np.isnan(dice["p"])


def test_a_row_of_which_one_seed_is_left_is_named(run):
    made = json.loads((run / "card.json").read_text())
    made["beside"]["rows"][0]["seeds"] = 1
    assert f"Of one seed alone, as others failed: {made['beside']['rows'][0]['row']}." in (
        card_markdown(made)
    )


def test_a_ledger_without_hashes_is_said_to_have_none(run, published, tmp_path):
    rows = pl.read_parquet(published / "ledger.parquet").drop("tables")
    rows.filter(pl.col("seed") == 0).write_parquet(tmp_path / "ledger.parquet")
    found = card.read_card(run, tmp_path)["published"]
    assert "holds no hashes" in found["split"]
    assert {row["how"] for row in found["rows"] if row["row"] == "Dice"} == {MEANS_ALONE}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset": "plantd"}, "did you mean 'planted'.*--dataset"),
        ({"beside": ["goalrnk"]}, "did you mean 'goalrank'.*--beside"),
        ({"label": "goalrank"}, "both called 'goalrank'.*--label"),
        ({"options": {"scal": 1}}, "scal"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(data, settings, words):
    with pytest.raises(ConfigError, match=words):
        card_suite(make_suite(data), "dnn", **settings)


def test_failed_trainings_give_their_reason(data, tmp_path, monkeypatch):
    monkeypatch.setattr(card, "run_suite", run_here)
    suite = card_suite(make_suite(data, seeds=[0]), "dpp", options={"jitter": -1.0}, beside=["mmr"])
    with pytest.raises(DataError, match="'dpp' has no result:\nseed 0: ValueError"):
        make_card(suite, tmp_path)


def test_rows_beside_that_failed_are_named(run, tmp_path):
    """A row that the card was asked to compare with does not vanish from it."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    ledger = Ledger(folder)
    cells = [cell for cell in stored_plan(folder) if cell.row.label == "mmr"]
    for cell in cells:
        ledger.write(cell, [failure("mini", cell, "no\nluck", 1.0)])
    text = card_markdown(card.read_card(folder, None))
    assert "mmr, seed 0 failed: no luck" in text
    assert "mmr, seed 1 failed: no luck" in text
    assert "| mmr " not in text
    assert "weaker baselines are not shown." in text


def test_no_card_of_cells_on_different_tables(run, tmp_path):
    """As after the tables of a killed card were replaced."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    for path in (folder / "ledger").glob("*.Dice.1.*"):
        table = pq.read_table(path)
        at = table.column_names.index("tables")
        other = table.set_column(at, "tables", [['{"test": "0"}'] * len(table)])
        pq.write_table(other, path)
    with pytest.raises(DataError, match=r"different tables.*Dice \(seed 1\).*remedy.*--out"):
        card.read_card(folder, None)


def test_a_card_of_one_seed(data, tmp_path, monkeypatch):
    """It has no p, which JSON holds as null."""
    monkeypatch.setattr(card, "run_suite", run_here)
    suite = card_suite(make_suite(data), DICE, seeds=[0], beside=["mmr"])
    make_card(suite, tmp_path)
    made = json.loads((tmp_path / "card.json").read_text())
    [mmr] = [row for row in made["beside"]["rows"] if row["row"] == "mmr"]
    assert mmr["p"] is None
    assert mmr["low"] < mmr["difference"] < mmr["high"]
    text = (tmp_path / "card.md").read_text()
    assert "One seed: the intervals are over users alone." in text
    assert f"Compared {ONE_SEED}.\n" in text
    assert "Holm" not in text
    [line] = [line for line in text.splitlines() if line.startswith("| mmr ")]
    assert line.endswith("] | – |")


def test_published_results_that_are_not_there_are_said_before_the_run(data, tmp_path, monkeypatch):
    monkeypatch.setattr(card, "run_suite", lambda *_, **__: pytest.fail("it was run"))
    suite = card_suite(make_suite(data), DICE, beside=["mmr"])
    with pytest.raises(DataError, match="--results"):
        make_card(suite, tmp_path, results=tmp_path / "none")


def test_no_card_by_a_metric_that_the_ranker_has_not(data, tmp_path, monkeypatch):
    monkeypatch.setattr(card, "run_suite", run_here)
    suite = make_suite(data, ["dnn"], metric="auc", metrics=["ndcg", "auc"], main="dnn", seeds=[0])
    with pytest.raises(DataError, match=r"'mmr' gives lists.*no auc.*option: metric"):
        make_card(card_suite(suite, "mmr", beside=["dnn"]), tmp_path)
