"""Running: failures go on, kills lose nothing, shards and processes agree."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch

from goalrank.errors import ConfigError, DataError
from goalrank.storage.locks import Claim
from goalrank.studies.arena import Ledger, load_leaderboards, markdown, run_suite, runner
from goalrank.studies.arena.cell_jobs import claim_path
from goalrank.studies.arena.run_cell import run_cell
from goalrank.studies.arena.runner import store_suite
from goalrank.studies.common import plan_cells, shard_cells
from goalrank.studies.common.cells import make_cell
from tests.studies.arena.kit import ROWS, make_suite


def quality(folder) -> dict[tuple[str, int], float]:
    table = Ledger(folder).read().filter(pl.col("status") == "ok")
    return {(r, s): v for r, s, v in table.select("ranker", "seed", "ndcg@3").iter_rows()}


def test_failed_cells_are_written_down_and_the_rest_go_on(finished):
    _, folder = finished
    table = Ledger(folder).read()
    failed = table.filter(pl.col("status") == "failed")
    assert sorted(failed["ranker"].to_list()) == ["diverges"] * 2 + ["impossible"] * 2
    reasons = dict(failed.select("ranker", "reason").iter_rows())
    assert "no weights that gradients could fit" in reasons["impossible"]
    assert reasons["diverges"].startswith("diverged")
    ok = table.filter(pl.col("status") == "ok")
    assert set(ok["kind"]) == {"dnn", "goalrank", "best_of", "mmr", "baselines"}
    for column in ("seconds", "peak_memory_mb", "ms_per_request", "ndcg@3"):
        assert ok[column].is_finite().all()
    for column in ("config_hash", "versions", "device", "python", "goalrank"):
        assert ok[column].null_count() == 0
    assert ok.filter(pl.col("kind") == "goalrank")["parameters"].to_numpy().min() > 0


def test_parts_are_computed_once(finished):
    """Two seeds: the light model, which is the dnn row and best_of's base too, and the reward."""
    _, folder = finished
    done = [p.parent.name.split(".")[0] for p in folder.glob("shared/stages/*/done.json")]
    assert sorted(done) == ["dnn", "dnn", "goalrank", "goalrank", "mmr", "mmr", "reward", "reward"]


def test_a_row_has_the_encoder_that_it_sets(data, tmp_path):
    """Rows for ids that were never seen are weights of a network, so that fewer of them show."""
    few = {"name": "dnn", "label": "few", "set": {"encoder": {"item_buckets": 1}}}
    suite = make_suite(data, ["dnn", few], seeds=[0])
    run_suite(suite, tmp_path, jobs=1)
    table = Ledger(tmp_path).read()
    sizes = dict(table.select("ranker", "parameters").iter_rows())
    assert sizes["few"] < sizes["dnn"]


def test_values_are_those_of_the_means(finished):
    _, folder = finished
    ledger = Ledger(folder)
    row = ledger.read().filter(pl.col("ranker") == "goalrank").row(0, named=True)
    values = ledger.values(row["key"])
    assert values.columns["goalrank"]["ndcg@3"].mean() == pytest.approx(row["ndcg@3"], abs=1e-6)
    assert len(values.users) == row["test_scored"]


def test_shards_together_are_the_whole(data, finished, tmp_path):
    torch.set_num_threads(1)
    suite = make_suite(data, ["dnn", "mmr", "baselines"])
    store_suite(suite, tmp_path)
    for i in (1, 2):
        for cell in shard_cells(plan_cells(suite), i, 2, tuned=False):
            assert not Ledger(tmp_path).has(cell)
            run_cell(suite, cell, tmp_path, "cpu")
    whole = quality(finished[1])
    parts = quality(tmp_path)
    assert {r for r, _ in parts} > {"dnn", "mmr"}
    assert parts == {key: whole[key] for key in parts}


def test_killed_in_the_middle_and_run_again(data, finished, tmp_path):
    """SIGKILL to the run: the same numbers in the end, and no finished cell is run again."""
    suite = make_suite(data, ROWS, seeds=[0])
    settings = tmp_path / "suite.json"
    settings.write_text(suite.model_dump_json())
    out = tmp_path / "out"
    code = (
        "import json, sys; from goalrank.studies.arena import run_suite; from goalrank.studies.common import build_suite\n"
        "suite = build_suite(json.load(open(sys.argv[1])))\n"
        "print(run_suite(suite, sys.argv[2], jobs=1, accelerator='cpu').ran)"
    )
    command = [sys.executable, "-c", code, str(settings), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=environment)
    try:
        deadline = time.monotonic() + 90
        while len(list(out.glob("ledger/*.parquet"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("ledger/*.parquet")}
    assert 2 <= len(before) < len(plan_cells(suite))
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    after = {p.name: p.stat().st_mtime_ns for p in out.glob("ledger/*.parquet")}
    assert len(after) == len(plan_cells(suite))
    late = {name for name in after if name not in before}
    # The killed run's worker may have finished its cell before it noticed.
    assert len(late) - 1 <= int(again.stdout) <= len(late)
    assert {name: after[name] for name in before} == before
    starts = [line for p in out.glob("logs/*.log") for line in p.read_text().splitlines()]
    starts = [line for line in starts if line.startswith("--- ")]
    assert len(starts) <= len(plan_cells(suite)) + 1  # only the cell that was cut off began twice
    whole = quality(finished[1])
    assert quality(out) == pytest.approx({key: whole[key] for key in quality(out)}, abs=1e-6)


def test_nothing_is_left_to_run(data, finished):
    suite, folder = finished
    done = run_suite(suite, folder, accelerator="cpu")
    assert (done.ran, done.before) == (0, len(plan_cells(suite)))


def test_a_cell_that_takes_its_process_with_it(data, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_run_on_worker", lambda process, cell: process.kill())
    done = run_suite(make_suite(data, ["dnn"]), tmp_path, jobs=1, accelerator="cpu")
    assert (done.ran, done.failed) == (2, 2)
    assert "signal 9" in Ledger(tmp_path).read()["reason"][0]


def test_a_claim_keeps_others_away(data, tmp_path):
    suite = make_suite(data)
    cell = make_cell(suite, suite.datasets[0], suite.rankers[0], 0, suite.sizes[0])
    path = claim_path(tmp_path, cell.key)
    mine, other = Claim(path), Claim(path)
    assert mine.take()
    assert not other.take()
    mine.drop()
    assert other.take()
    other.drop()


def test_a_ledger_of_a_newer_version_is_refused(data, tmp_path):
    suite = make_suite(data, ["mmr"])
    store_suite(suite, tmp_path)
    cell = plan_cells(suite)[0]
    run_cell(suite, cell, tmp_path, "cpu")
    path = Ledger(tmp_path).path(cell)
    table = pq.read_table(path)
    meta = {**table.schema.metadata, b"goalrank.ledger": b"99"}
    pq.write_table(table.replace_schema_metadata(meta), path)
    with pytest.raises(DataError, match="ledger format 99, written by a newer goalrank"):
        load_leaderboards(tmp_path)
    with pytest.raises(DataError, match="newer goalrank"):
        run_suite(suite, tmp_path)
    path.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="damaged"):
        run_suite(suite, tmp_path)


def test_retry_runs_failed_cells_again(data, tmp_path, monkeypatch):
    suite = make_suite(data, ["dnn"], seeds=[0])
    monkeypatch.setattr(runner, "_run_on_worker", lambda process, cell: process.kill())
    assert run_suite(suite, tmp_path, jobs=1, accelerator="cpu").failed == 1
    assert run_suite(suite, tmp_path, jobs=1, accelerator="cpu").ran == 0
    assert run_suite(suite, tmp_path, jobs=1, accelerator="cpu", retry=True).ran == 1


def test_tuning_is_of_one_row_and_one_data_set(data, tmp_path):
    """Rows of one ranker, and data sets, have trials of their own; more generators have none."""
    tuning = {"trials": 2, "steps": 2, "requests": 40, "validation": 20}
    place = {"source": "requests", "path": str(data)}
    rows = [
        {"name": "dnn"},
        {"name": "dnn", "label": "wide", "set": {"ranker": {"width": 16}}},
        {"name": "mg_e", "label": "mg_e_3", "options": {"k": 3}},
        {"name": "mg_e", "label": "mg_e_7", "options": {"k": 7}},
    ]
    suite = make_suite(
        data, rows, tuning=tuning, seeds=[0],
        datasets=[{"name": "one", **place}, {"name": "two", **place, "max_train": 50}],
    )  # fmt: skip
    run_suite(suite, tmp_path)
    kept = {path.name.split(".")[0]: 0 for path in (tmp_path / "shared/tuning").glob("*.json")}
    for path in (tmp_path / "shared/tuning").glob("*.json"):
        kept[path.name.split(".")[0]] += 1
    assert kept == {"dnn": 4, "mg_e": 2}


def test_tuning_has_one_budget_and_is_kept(data, tmp_path):
    torch.set_num_threads(1)
    tuning = {"trials": 3, "steps": 2, "requests": 40, "validation": 20}
    suite = make_suite(data, ["dnn", "mmr", "baselines"], tuning=tuning, seeds=[0, 1])
    store_suite(suite, tmp_path)
    for cell in plan_cells(suite):
        assert run_cell(suite, cell, tmp_path, "cpu") == "ok"
    table = Ledger(tmp_path).read()
    for label in ("dnn", "mmr"):
        rows = [json.loads(t) for t in table.filter(pl.col("ranker") == label)["tuning"]]
        assert rows[0] == rows[1]  # the second seed takes the first's winner
        assert len(rows[0]["trials"]) == rows[0]["budget"] == 3
        scores = [t["score"] for t in rows[0]["trials"]]
        assert None not in scores
        assert rows[0]["best"] == rows[0]["trials"][scores.index(max(scores))]["settings"]
        assert rows[0]["trials"][0]["settings"] == {}
    assert table.filter(pl.col("baseline"))["trials"].max() == 0


@pytest.fixture(scope="module")
def by_auc(data, tmp_path_factory):
    """A suite whose metric rows that give lists do not have."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("auc")
    tuning = {"trials": 2, "steps": 2}
    suite = make_suite(
        data, ["dnn", "mmr"], metric="auc", metrics=["ndcg", "auc"], main="mmr", seeds=[0],
        tuning=tuning,
    )  # fmt: skip
    store_suite(suite, folder)
    for cell in plan_cells(suite):
        run_cell(suite, cell, folder, "cpu")
    return folder


def test_a_row_that_has_not_the_suites_metric_is_run_all_the_same(by_auc):
    table = Ledger(by_auc).read()
    assert table["status"].to_list() == ["ok", "ok"]
    [dnn], [mmr] = (table.filter(ranker=name).to_dicts() for name in ("dnn", "mmr"))
    assert dnn["auc"] > 0
    assert mmr["auc"] is None
    assert mmr["ndcg@3"] > 0
    reasons = [trial["reason"] for trial in json.loads(mmr["tuning"])["trials"]]
    assert reasons == ["auc of this row is defined for no validation request"] * 2


def test_a_main_row_without_the_metric_is_said_to_have_none(by_auc):
    text = markdown(load_leaderboards(by_auc))
    assert "The main row, mmr, gives lists without scores and so has no auc" in text
    assert "| **mmr** | – |" in text
    assert "No tuning trial could be measured, so that the recipe's settings stand: mmr." in text
    assert "points" in markdown(load_leaderboards(by_auc, "ndcg"))


def test_a_metric_need_not_be_defined_for_every_request(data, tmp_path):
    """Nor be at most 1: what is kept in single precision is still that of the ledger."""
    torch.set_num_threads(1)
    name = "tests.studies.arena.plugged:hits_of_several"
    suite = make_suite(data, ["dnn"], metric=name, metrics=["ndcg", name], seeds=[0])
    store_suite(suite, tmp_path)
    [cell] = plan_cells(suite)
    assert run_cell(suite, cell, tmp_path, "cpu") == "ok"
    [row] = Ledger(tmp_path).read().to_dicts()
    found = Ledger(tmp_path).measured(cell.key, "dnn", f"{name}@3", row[f"{name}@3"])
    values = found.columns["dnn"][f"{name}@3"]
    assert 0 < np.isnan(values).sum() < len(values)
    assert row[f"{name}@3"] == pytest.approx(np.nanmean(values))
    assert row["validation"] > 1
    with pytest.raises(DataError, match="one of them was changed"):
        Ledger(tmp_path).measured(cell.key, "dnn", f"{name}@3", 1.001 * row[f"{name}@3"])


def test_an_accelerator_that_is_not_there_is_said_before_anything_runs(data, tmp_path):
    with pytest.raises(ConfigError, match=r"'warp' is unknown.*--accelerator"):
        run_suite(make_suite(data, ["mmr"]), tmp_path, jobs=1, accelerator="warp")
    assert not list((tmp_path / "ledger").glob("*"))
