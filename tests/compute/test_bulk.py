"""Bulk ranking by parts in this process: parts cover the dataset, any store, whole or nothing."""

from __future__ import annotations

import json

import fsspec
import polars as pl
import pytest
from typer.testing import CliRunner

from goalrank.api import rank_dataset
from goalrank.cli import app
from goalrank.errors import ConfigError, DataError, ExecutorError
from goalrank.requests import Requests, open_dataset
from tests.bundles.kit import make_bundle
from tests.compute.kit import FlakyFileSystem
from tests.tables import make_table

fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
BUNDLE = make_bundle(reward=False)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr("goalrank.storage.retry.time.sleep", lambda _: None)
    FlakyFileSystem.fail = 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shards of 50, 0 and 31 requests, and side tables."""
    folder = tmp_path_factory.mktemp("bulk") / "requests"
    Requests.append(folder, make_table(50, seed=1))
    Requests.append(folder, make_table(31, seed=2))
    make_table(1).take([]).write(folder / "part-000009-00000000.parquet")
    return folder


@pytest.mark.parametrize("rows", [1, 7, 31, 50, 1000])
def test_parts_are_the_dataset(folder, rows):
    dataset = open_dataset(str(folder), rows)
    whole = Requests.read(folder)
    assert dataset.rows == len(whole) == 81
    assert max(part.rows for part in dataset.parts) <= rows
    found = [dataset.read(part) for part in dataset.parts]
    assert pl.concat([one.frame for one in found]).equals(whole.frame)
    assert found[0].info == whole.info
    assert found[0].items is not None
    assert whole.items is not None
    assert found[0].items.equals(whole.items)
    starts = [part.first for part in dataset.parts]
    assert starts == [sum(p.rows for p in dataset.parts[:i]) for i in range(len(starts))]


def test_row_groups_are_joined_and_cut(tmp_path):
    table = make_table(60)
    table.write(tmp_path / "t.parquet")
    table.frame.write_parquet(tmp_path / "t.parquet", row_group_size=13)
    groups = {p.groups for p in open_dataset(str(tmp_path / "t.parquet"), 30).parts}
    assert groups == {(0, 1), (2, 3), (4,)}
    cut = open_dataset(str(tmp_path / "t.parquet"), 5)
    assert [p.rows for p in cut.parts[:3]] == [5, 5, 3]
    assert pl.concat([cut.read(p).frame for p in cut.parts]).equals(table.frame)


def test_from_and_to_an_object_store(folder, tmp_path):
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/bulk/requests", recursive=True)
    want = pl.read_parquet(BUNDLE.rank_file(folder, tmp_path / "want.parquet"))
    rank_dataset(BUNDLE, "memory://bulk/requests", "memory://bulk/one.parquet", part_rows=20)
    with memory.open("/bulk/one.parquet") as file:
        one = pl.read_parquet(file)
    assert one.drop("log_prob").equals(want.drop("log_prob"))
    rank_dataset(BUNDLE, "memory://bulk/requests", "memory://bulk/lists", part_rows=20)
    about = json.loads(memory.cat("/bulk/lists/_lists.json"))
    parts = [pl.read_parquet(memory.open(f"/bulk/lists/{name}")) for name in about["parts"]]
    assert pl.concat(parts).equals(one)
    assert about["requests"] == 81
    with pytest.raises(ConfigError, match="finished lists"):
        rank_dataset(BUNDLE, "memory://bulk/requests", "memory://bulk/lists")
    memory.rm("/bulk", recursive=True)


def test_a_store_that_times_out(folder, tmp_path):
    out = f"flaky://{tmp_path}/lists.parquet"
    FlakyFileSystem.fail = 3
    assert rank_dataset(BUNDLE, f"flaky://{folder}", out, part_rows=20) == 81
    want = pl.read_parquet(tmp_path / "lists.parquet")
    assert len(want) == want["request_id"].n_unique() == 81
    FlakyFileSystem.fail = 10**6
    with pytest.raises(ExecutorError, match=r"does not answer.*run the same command again"):
        rank_dataset(BUNDLE, f"flaky://{folder}", out, part_rows=20)
    assert pl.read_parquet(tmp_path / "lists.parquet").equals(want)


def test_an_interrupted_folder_is_started_afresh(folder, tmp_path):
    out = tmp_path / "lists"
    out.mkdir()
    (out / "part-000777.parquet").write_bytes(b"left over")
    rank_dataset(BUNDLE, str(folder), str(out), part_rows=40)
    assert len(pl.read_parquet(out / "*.parquet")) == 81
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.parquet").write_bytes(b"precious")
    with pytest.raises(ConfigError, match=r"mine\.parquet"):
        rank_dataset(BUNDLE, str(folder), str(tmp_path / "other"))


def test_faults_are_said(folder, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        rank_dataset(BUNDLE, str(tmp_path / "none"), str(tmp_path / "o.parquet"))
    with pytest.raises(ConfigError, match="itself"):
        rank_dataset(BUNDLE, str(folder), str(folder))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match="no readable Parquet"):
        open_dataset(str(tmp_path / "bad.parquet"))
    with pytest.raises(ConfigError, match="rows"):
        open_dataset(str(folder), 0)


def test_the_verbs_name_executors(tmp_path):
    bundle = BUNDLE.save(tmp_path / "bundle")
    make_table(5).write(tmp_path / "r.parquet")
    arguments = ["rank", "--bundle", bundle, "--requests", tmp_path / "r.parquet"]
    for extra, text in (
        (["--out", tmp_path / "o.parquet", "--executor", "spark"], "local, ray"),
        (["--out", tmp_path / "folder"], "does not end in .parquet"),
    ):
        result = CliRunner().invoke(app, [str(a) for a in [*arguments, *extra]])
        assert result.exit_code == 2
        assert text in result.stderr
    result = CliRunner().invoke(
        app, [str(a) for a in [*arguments, "--out", tmp_path / "o.parquet"]]
    )
    assert result.exit_code == 0
    assert len(pl.read_parquet(tmp_path / "o.parquet")) == 5
    result = CliRunner().invoke(app, ["data", "import", "kuairand", "--executor", "spark"])
    assert "local, ray" in result.stderr


def test_the_earlier_name_of_an_option_works_and_warns(tmp_path):
    bundle = BUNDLE.save(tmp_path / "bundle")
    make_table(5).write(tmp_path / "r.parquet")
    arguments = ["rank", "--bundle", bundle, "--requests", tmp_path / "r.parquet"]
    arguments += ["--out", tmp_path / "o.parquet", "--engine"]
    result = CliRunner().invoke(app, [str(a) for a in [*arguments, "local"]])
    assert result.exit_code == 0
    assert "--engine is now called --executor" in result.stderr
    result = CliRunner().invoke(app, [str(a) for a in [*arguments, "spark"]])
    assert "executor 'spark' is unknown" in result.stderr
    assert "--engine" not in CliRunner().invoke(app, ["rank", "--help"]).output
