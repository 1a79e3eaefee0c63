"""Every reader of ours keeps the published contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from goalrank.logs import SOURCES
from goalrank.testing import ReaderContract
from tests.logs.logs_data import exposures, kuairand_folder, movielens_folder, ratings

POPULAR = {"quotas": {"popularity": 1.0}, "candidates": 10, "first_fit": 50}
EXPOSED = {"columns": {"time": "time_ms"}, "kinds": ("is_click",)}


class TestMovielens(ReaderContract):
    source = "movielens"
    settings = POPULAR

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return movielens_folder(tmp_path / "log")


class TestKuairand(ReaderContract):
    source = "kuairand"

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return kuairand_folder(tmp_path / "log")


class TestAmazon(ReaderContract):
    source = "amazon"
    settings = POPULAR

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        ratings().write_csv(tmp_path / "ratings.csv", include_header=False)
        return tmp_path / "ratings.csv"


class TestInteractions(ReaderContract):
    source = "interactions"
    settings = POPULAR

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        ratings().write_parquet(tmp_path / "log.parquet")
        return tmp_path / "log.parquet"


class TestExposures(ReaderContract):
    source = "exposures"
    settings = EXPOSED

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        exposures().write_parquet(tmp_path / "log.parquet")
        return tmp_path / "log.parquet"


def test_no_reader_escapes():
    covered = {case.source for case in ReaderContract.__subclasses__()}
    assert covered >= set(SOURCES.builtin_names), "give the reader a class in this file"
