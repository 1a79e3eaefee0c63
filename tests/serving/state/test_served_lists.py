"""From a log to lists: what a bundle serves from state equals what the library ranks."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from goalrank import fit, load
from goalrank.bundles import Predictor
from goalrank.logs import import_dataset
from goalrank.logs.options import ImportOptions
from goalrank.logs.readers.sources import SOURCES
from goalrank.logs.retrieval.refits import refit_moments
from goalrank.requests import Requests
from goalrank.serving.state.live import Asked, LiveState
from tests.logs.logs_data import movielens_folder

OPTIONS = {"first_fit": 100, "factors": 4, "candidates": 12, "stride": 5, "history": 20}
LINEAR = {"ranker.name": "linear", "objective.name": "supervised", "light": []}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    path = movielens_folder(folder / "log")
    import_dataset("movielens", path, OPTIONS, out=folder / "data")
    fit(folder / "data" / "train.parquet", overrides=LINEAR, out=folder / "run", progress=False)
    raw = SOURCES["movielens"](path, ImportOptions.from_mapping(OPTIONS))
    return load(folder / "run"), Requests.read(folder / "data" / "test.parquet"), raw


def test_the_bundle_keeps_what_the_import_learnt(made):
    bundle, test, _ = made
    assert bundle.learnt is not None
    assert bundle.encoder.info.computed == test.info.computed
    assert bundle.encoder.info.log == test.info.log
    assert list(bundle.learnt.shares) == ["item_to_item", "factorisation", "popularity"]


def test_lists_from_state_are_those_of_the_library(made):
    bundle, test, raw = made
    live = LiveState(bundle.encoder.info, bundle.learnt)
    live.add(raw.events)
    moments = refit_moments(np.sort(raw.events["time"].to_numpy()), 100, 1.5)
    late = test.filter(pl.col("time").cast(pl.Int64) >= int(moments[-1]))
    assert len(late) > 20
    expected = bundle.rank(late, slots=5)
    predictor = Predictor(bundle)
    different = 0
    for row, best in zip(late.frame.iter_rows(named=True), expected["items"].to_list()):
        at = int(row["time"].timestamp() * 1e6 + 0.5)
        filled = live.rows([Asked(row["user_id"], at, row["candidates"])])[0]
        plain = {name: row[name] for name in ("request_id", "user_id", "time", "candidates")}
        different += predictor.rank([{**plain, **filled}], 5)[0].items != best
    assert different == 0
