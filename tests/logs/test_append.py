"""Old and new rows in two steps give the tables of one import of all rows."""

from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from goalrank.errors import ConfigError, DataError, SchemaError
from goalrank.logs import append_rows, import_dataset
from goalrank.logs.spill.folder import Spill
from goalrank.requests import Requests
from tests.logs.logs_data import START, kuairand_folder, movielens_folder, ratings

PARTS = ("train", "validation", "test")
OPTIONS = {"first_fit": 100, "factors": 4, "candidates": 20, "stride": 5}
CUT = START + 300_000


def halves(folder, log=None):
    """The whole log, its rows before a moment, and its later ones, as files of one name."""
    log = (ratings(ties=True) if log is None else log).sample(fraction=1.0, seed=1, shuffle=True)
    early = pl.col("timestamp") < CUT
    log = pl.concat([log.filter(early), log.filter(~early)])
    for name, rows in (("all", log), ("old", log.filter(early)), ("new", log.filter(~early))):
        (folder / name).mkdir(parents=True)
        rows.write_parquet(folder / name / "ratings.parquet")
    items = pl.DataFrame({"item_id": np.arange(100, 180), "group": ["a", "b"] * 40})
    for name in ("all", "old"):
        items.write_parquet(folder / name / "items.parquet")
    return log


def parts(folder):
    return {part: Requests.read(folder / f"{part}.parquet", allow_empty=True) for part in PARTS}


def assert_same(mine, theirs):
    for part, table in parts(mine).items():
        want = parts(theirs)[part]
        assert_frame_equal(table.frame, want.frame, check_exact=True)
        assert table.info == want.info
        assert (table.items is None) == (want.items is None)
        assert table.items is None or table.items.equals(want.items)
    reports = [json.loads((f / "import.json").read_text()) for f in (mine, theirs)]
    for report in reports:
        del report["seconds"], report["disk"]
    assert reports[0] == reports[1]


@pytest.mark.parametrize("more", [{}, {"start_fraction": 0.0}, {"protocol": "injected"},
                                  {"split": "user"}])  # fmt: skip
def test_appended_rows_give_the_tables_of_one_import(tmp_path, more):
    halves(tmp_path)
    options = {**OPTIONS, **more}
    import_dataset("interactions", tmp_path / "all/ratings.parquet", options, out=tmp_path / "one")
    import_dataset("interactions", tmp_path / "old/ratings.parquet", options, out=tmp_path / "two")
    before = parts(tmp_path / "two")["train"]
    shutil.rmtree(tmp_path / "old")  # it is not read again
    append_rows(tmp_path / "two", tmp_path / "new/ratings.parquet")
    assert len(parts(tmp_path / "two")["train"]) > len(before)
    assert_same(tmp_path / "two", tmp_path / "one")


def test_copies_and_several_files_are_counted_as_in_one_import(tmp_path):
    log = ratings()
    log = pl.concat([log, log.gather_every(7), log.gather_every(11)])
    halves(tmp_path, log)
    new = pl.read_parquet(tmp_path / "new/ratings.parquet").sort("timestamp")
    middle = new["timestamp"][len(new) // 2]
    files = []
    for name, rows in (("a", new.filter(pl.col("timestamp") < middle)),
                       ("b", new.filter(pl.col("timestamp") >= middle))):  # fmt: skip
        rows.write_parquet(tmp_path / f"{name}.parquet")
        files.append(tmp_path / f"{name}.parquet")
    import_dataset("interactions", tmp_path / "all/ratings.parquet", OPTIONS, out=tmp_path / "one")
    import_dataset("interactions", tmp_path / "old/ratings.parquet", OPTIONS, out=tmp_path / "two")
    append_rows(tmp_path / "two", files[0])
    append_rows(tmp_path / "two", files[1])
    assert_same(tmp_path / "two", tmp_path / "one")
    assert json.loads((tmp_path / "two/import.json").read_text())["counts"]["duplicates_dropped"]


def test_rows_that_are_not_later_are_refused_and_nothing_changes(tmp_path):
    halves(tmp_path)
    out = tmp_path / "data"
    import_dataset("interactions", tmp_path / "old/ratings.parquet", OPTIONS, out=out)
    before = parts(out)["train"].frame
    with pytest.raises(DataError, match=r"rows are not later than 2020.*remedy"):
        append_rows(out, tmp_path / "all/ratings.parquet")
    pl.DataFrame(
        {"user_id": ["x"], "item_id": [1], "rating": [4], "timestamp": [CUT]}
    ).write_parquet(tmp_path / "text.parquet")
    with pytest.raises(SchemaError, match="user_id"):
        append_rows(out, tmp_path / "text.parquet")
    assert parts(out)["train"].frame.equals(before)


@pytest.mark.parametrize("moment", ["while tables are made", "while files take their names"])
def test_an_append_that_is_cut_short_leaves_a_usable_data_set(tmp_path, monkeypatch, moment):
    halves(tmp_path)
    out, whole = tmp_path / "data", tmp_path / "whole"
    import_dataset("interactions", tmp_path / "all/ratings.parquet", OPTIONS, out=whole)
    import_dataset("interactions", tmp_path / "old/ratings.parquet", OPTIONS, out=out)
    before = parts(out)["train"].frame
    naming = moment.endswith("names")
    where = "goalrank.logs.output.put_in_place" if naming else "goalrank.logs.making.assemble"

    def dies(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(where, dies)
        patch.setattr("goalrank.logs.spill.folder._remove", lambda _: None)  # as a kill leaves it
        with pytest.raises(KeyboardInterrupt):
            append_rows(out, tmp_path / "new/ratings.parquet")
    if naming:  # all tables were whole, so the next command puts them in place first
        with pytest.raises(DataError, match="not later"):
            append_rows(out, tmp_path / "new/ratings.parquet")
    else:
        assert parts(out)["train"].frame.equals(before)
        append_rows(out, tmp_path / "new/ratings.parquet")
    assert_same(out, whole)


def test_what_cannot_be_appended_to_says_why(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        append_rows(tmp_path / "none", tmp_path / "x.parquet")
    with pytest.raises(DataError, match="keeps no log"):
        append_rows(tmp_path, tmp_path / "x.parquet")
    log = kuairand_folder(tmp_path / "k")
    import_dataset("kuairand", log, {"first_fit": 100}, out=tmp_path / "shown")
    with pytest.raises(ConfigError, match="log of exposures"):
        append_rows(tmp_path / "shown", log)
    data = movielens_folder(tmp_path / "m")
    import_dataset("movielens", data, OPTIONS, out=tmp_path / "films")
    events = tmp_path / "films/log/events.parquet"
    events.write_bytes(events.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="damaged"):
        append_rows(tmp_path / "films", data)


def test_a_spill_folder_knows_its_size(tmp_path):
    spill = Spill(tmp_path)
    values = spill.stored("a", [np.arange(5), np.arange(3)], np.int32)
    assert values.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    spill.release()
    assert spill.peak == 32
    assert values.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
