"""Planted worlds: no gain where there is nothing, a gain and right slopes where there is."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from goalrank.errors import ConfigError, DataError
from goalrank.requests import Requests
from goalrank.studies.list_effects import ITEMS, LISTS, POSITIONS, run_list_effects
from tests.studies.list_effects.kit import study, tables

pytestmark = pytest.mark.timeout(600)  # six small models; minutes on a busy machine


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    folder = tmp_path_factory.mktemp("without")
    return run_list_effects(tables(0.0), study((0,)), folder)


@pytest.fixture(scope="module")
def world():
    return tables(1.5)


@pytest.fixture(scope="module")
def planted(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted") / "study"
    return folder, run_list_effects(world, study((0,)), folder, name="fatigue")


def _gain(result, model, over):
    return next(g for g in result["gains"] if (g["model"], g["over"]) == (model, over))


def test_without_list_effects_there_is_no_gain_beyond_positions(without):
    assert _gain(without, LISTS, POSITIONS)["low"] <= 0
    assert _gain(without, POSITIONS, ITEMS)["low"] > 0
    assert "matters" not in without["answer"]
    slope = without["swaps"]["same items"]["contrasts"][f"{LISTS} over {POSITIONS}"]
    assert slope["item moved up"]["slope"]["low"] < 0.5


def test_without_list_effects_positions_explain_swaps(without):
    up = without["swaps"]["same items"]["contrasts"][f"{POSITIONS} over {ITEMS}"]["item moved up"]
    assert up["slope"]["mean"] == pytest.approx(1, abs=0.15)
    assert up["observed"]["low"] < up["predicted"] < up["observed"]["high"]


def test_with_list_effects_there_is_a_gain(planted):
    gain = _gain(planted[1], LISTS, POSITIONS)
    assert gain["low"] > 0
    assert gain["share"] > 0.05
    assert planted[1]["answer"].startswith("One seed, so nothing is said of the models")


def test_with_list_effects_swaps_have_slope_one(planted):
    found = planted[1]["swaps"]["same items"]
    assert found["enough"]
    assert found["pairs"] > 300
    beyond = found["contrasts"][f"{LISTS} over {POSITIONS}"]
    for measure in ("slots", "item moved up"):
        assert beyond[measure]["slope"]["mean"] == pytest.approx(1, abs=0.15)
        assert beyond[measure]["slope"]["low"] > 0.7
        assert found["models"][LISTS][measure]["slope"]["mean"] == pytest.approx(1, abs=0.15)


def test_rates_by_position(planted):
    result = planted[1]
    observed = [row["observed"] for row in result["slots"]]
    for model in (POSITIONS, LISTS):
        predicted = result["models"][model]["predicted_by_slot"]
        assert predicted == pytest.approx([row["mean"] for row in observed], abs=0.04)
    flat = result["models"][ITEMS]["predicted_by_slot"]
    assert max(flat) - min(flat) < 0.02
    by_slot = [result["models"][m]["calibration_error_by_slot"][0] for m in (ITEMS, POSITIONS)]
    assert by_slot[0] > 0.2 > by_slot[1]


def test_files_and_a_second_run(world, planted):
    """The second run fits nothing: its predictions come from the ledger."""
    folder, result = planted
    names = {path.name for path in folder.iterdir()} - {".lock"}
    pictures = {f"{n}.{e}" for n in ("positions", "swaps") for e in ("svg", "png")}
    assert names == {"config.json", "ledger", "list-effects.json", "table.md"} | pictures
    assert json.loads((folder / "list-effects.json").read_text()) == result
    assert "List effects on 'fatigue'" in (folder / "table.md").read_text()
    ledger = folder / "ledger" / "seed-0.parquet"
    before = ledger.stat().st_mtime_ns
    (folder / "table.md").unlink()
    told = []
    again = run_list_effects(
        world, study((0,)), folder, name="fatigue", progress=lambda *each: told.append(each)
    )
    assert again == result
    assert (folder / "table.md").exists()
    assert told == [(3, 3)]
    assert ledger.stat().st_mtime_ns == before


def test_a_killed_run_goes_on(tmp_path):
    small = tables(1.5, train=300, test=300)

    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_list_effects(small, study((0, 1), 5), tmp_path / "killed", progress=stop)
    first = tmp_path / "killed" / "ledger" / "seed-0.parquet"
    before = first.stat().st_mtime_ns
    result = run_list_effects(small, study((0, 1), 5), tmp_path / "killed")
    assert first.stat().st_mtime_ns == before
    assert result == run_list_effects(small, study((0, 1), 5), tmp_path / "whole")
    assert not (tmp_path / "killed" / "work").exists()


def test_a_folder_of_another_study_is_refused(tmp_path):
    small = tables(1.5, train=300, test=300)
    run_list_effects(small, study((0,), 2), tmp_path)
    with pytest.raises(ConfigError, match=r"other settings or other requests.*--out"):
        run_list_effects(small, study((0,), 3), tmp_path)
    with pytest.raises(ConfigError, match="other settings or other requests"):
        run_list_effects(tables(1.5, train=300, test=301), study((0,), 2), tmp_path)
    run_list_effects(small, study((0, 1), 2), tmp_path)  # one more seed is the same study


def test_a_split_at_random_deals_whole_users(tmp_path):
    small = tables(1.5, train=300, test=300)
    result = run_list_effects(small, study((0,), 2, split="random", max_train=100), tmp_path)
    assert result["requests"]["train"] == 100
    assert sum(result["requests"].values()) < 300 + 300 + 37
    assert result["users"] < 50
    assert "dealt anew" in result["notes"][0]


def test_few_users_are_not_taken_for_many_requests(tmp_path):
    """The test part has 300 requests of 12 users: no interval may be as narrow as 300 would make it."""
    small = tables(1.5, train=300, test=300)
    few = small["test"]
    small["test"] = _changed(few, few.frame.with_columns(pl.col("user_id") % 12))
    result = run_list_effects(small, study((0,), 2), tmp_path)
    assert "Student's t over 12 users" in result["intervals"]
    assert "Student's t over 12 users" in (tmp_path / "table.md").read_text()
    assert not any(found["enough"] for found in result["swaps"].values())


def _changed(table, frame=None, info=None):
    frame = table.frame if frame is None else frame
    return Requests(frame, items=table.items, users=table.users, info=info or table.info)


def test_a_retrieved_log_is_refused(tmp_path):
    small = {
        part: _changed(table, info=table.info.model_copy(update={"protocol": "retrieved"}))
        for part, table in tables(0.0, train=50, test=50).items()
    }
    with pytest.raises(DataError, match=r"protocol is 'retrieved'.*remedy"):
        run_list_effects(small, study((0,), 2), tmp_path)


def test_a_log_without_lists_of_two_is_refused(tmp_path):
    one = pl.col("shown").list.head(1)
    answers = pl.struct(pl.col("feedback").struct.field("click").list.head(1))
    small = {
        part: _changed(table, table.frame.with_columns(shown=one, feedback=answers))
        for part, table in tables(0.0, train=50, test=50).items()
    }
    with pytest.raises(DataError, match=r"longest list .* has 1 items.*remedy"):
        run_list_effects(small, study((0,), 2), tmp_path)


def test_a_log_without_feedback_is_refused(tmp_path):
    small = tables(0.0, train=50, test=50)
    none: dict[str, Any] = {"feedback_kinds": (), "target": None, "feedback_ranges": {}}
    bare = {
        part: _changed(table, table.frame.drop("feedback"), table.info.model_copy(update=none))
        for part, table in small.items()
    }
    with pytest.raises(DataError, match=r"no feedback.*remedy"):
        run_list_effects(bare, study((0,), 2), tmp_path)


def test_feedback_that_never_varies_is_refused(tmp_path):
    zero = pl.struct(pl.col("feedback").struct.field("click").list.eval(pl.element() * 0))
    small = {
        part: _changed(table, table.frame.with_columns(feedback=zero))
        for part, table in tables(0.0, train=50, test=50).items()
    }
    with pytest.raises(DataError, match="'click' is 0 at every training slot"):
        run_list_effects(small, study((0,), 2), tmp_path)


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"'like' is absent.*click.*--kind"):
        run_list_effects(tables(0.0, train=50, test=50), study((0,), 2, kind="like"), tmp_path)
