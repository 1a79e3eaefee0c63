"""The shipped data import at once, are valid, and are written whole."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from goalrank.errors import DataError
from goalrank.logs import data_root, import_log, shipped_path, write_import
from goalrank.requests import Requests


@pytest.fixture(scope="module")
def kuairand():
    return import_log("kuairand")


def test_kuairand_ships(kuairand):
    assert kuairand.report["counts"]["train"] > 2000
    assert kuairand.report["counts"]["test"] > 500
    for table in (kuairand.train, kuairand.validation, kuairand.test):
        assert table.validate() == []
        sizes = table.frame["candidates"].list.len()
        assert sizes.min() >= (6 if table is kuairand.test else 2)
        assert sizes.max() <= 12
    assert "CC BY-SA 4.0" in (shipped_path("kuairand") / "ATTRIBUTION.md").read_text()
    assert not [c for c in kuairand.train.items.columns if c.endswith(("_cnt", "_num"))]


def test_past_click_rate_ranks_better_than_chance(kuairand):
    """A baseline; a leak would lift it far above, a bug would drop it to 0.5."""
    table = kuairand.test
    at = table.info.candidate_features.index("click_rate")
    better = pairs = 0
    for row in table.frame.head(400).rows(named=True):
        rate = [row["candidate_features"][p][at] for p in row["shown"]]
        click = row["feedback"]["click"]
        good = [r for r, c in zip(rate, click) if c > 0]
        bad = [r for r, c in zip(rate, click) if c == 0]
        better += sum((g > b) + 0.5 * (g == b) for g in good for b in bad)
        pairs += len(good) * len(bad)
    assert 0.56 < better / pairs < 0.75


def test_movielens_ships(tmp_path):
    result = import_log("movielens", None, {"stride": 40})
    assert (shipped_path("movielens-small") / "README.grouplens.txt").is_file()
    assert len(result.test) > 50
    assert result.train.validate() == []
    assert set(result.report["recall"]["all"]) == {
        "item_to_item",
        "factorisation",
        "popularity",
        "blend",
    }


def test_written_import_reads_back(kuairand, tmp_path):
    folder = write_import(kuairand, tmp_path / "out")
    names = sorted(p.name for p in folder.iterdir())
    assert names == [
        "import.json",
        "items.parquet",
        "test.parquet",
        "train.parquet",
        "users.parquet",
        "validation.parquet",
    ]
    back = Requests.read(folder / "test.parquet")
    assert back.frame.equals(kuairand.test.frame)
    assert back.info == kuairand.test.info
    assert back.items is not None
    assert json.loads((folder / "import.json").read_text())["counts"] == kuairand.report["counts"]


def test_unwritable_folder(kuairand, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_import(kuairand, tmp_path / "file")


def test_data_root(tmp_path, monkeypatch):
    monkeypatch.delenv("GOALRANK_DATA", raising=False)
    assert data_root() is None
    monkeypatch.setenv("GOALRANK_DATA", str(tmp_path))
    (tmp_path / "ml-1m").mkdir()
    assert data_root("ml-1m") == tmp_path / "ml-1m"
    assert data_root("absent") is None


def test_importing_logs_stays_light():
    code = "import goalrank.logs, sys; print([m for m in ('torch', 'implicit', 'scipy', 'lightning') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_shipped_files_are_small():
    sizes = [p.stat().st_size for p in shipped_path("kuairand").parent.rglob("*") if p.is_file()]
    assert sum(sizes) < 4_000_000
    assert pl.read_parquet(shipped_path("kuairand") / "log_standard.parquet").height > 200_000


def test_a_path_may_name_a_folder_of_the_data_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(shipped_path("movielens-small"), tmp_path / "films")
    monkeypatch.setenv("GOALRANK_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path.parent)
    options = {"quotas": {"popularity": 1.0}, "stride": 50}
    assert len(import_log("movielens", "films", options).train) > 0
