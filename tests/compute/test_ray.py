"""A local cluster of two workers: the same results as without it, and killed workers."""

from __future__ import annotations

import os
from importlib.util import find_spec

import polars as pl
import pytest

from goalrank.api import rank_dataset
from goalrank.compute import LocalExecutor, RayExecutor
from goalrank.errors import DataError, ExecutorError, MissingExtraError, ValidationError
from goalrank.logs import import_log
from goalrank.requests import Requests
from goalrank.studies.arena import Ledger, run_suite
from tests.bundles.kit import make_bundle
from tests.compute.kit import always_dies, dies_once, place, refuses, scaled
from tests.logs.logs_data import kuairand_folder, movielens_folder
from tests.studies.arena.kit import make_suite, write_data
from tests.tables import make_table

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra [ray]")
slow = pytest.mark.slow  # one test, with one cluster, is enough for every day
OPTIONS = {
    "candidates": 12, "stride": 3, "first_fit": 200, "refit_growth": 2.0, "factors": 8,
}  # fmt: skip


@slow
def test_order_and_place(cluster):
    assert list(cluster.map(scaled, 3, range(40))) == [3 * i for i in range(40)]
    assert os.getpid() not in set(cluster.map(place, None, range(4)))
    assert cluster.workers == 2


def test_an_import_is_equal_and_a_killed_worker_costs_a_try(cluster, tmp_path):
    done = list(cluster.map(dies_once, tmp_path, range(8)))
    assert [part for part, _ in done] == list(range(8))
    assert dict(done)[3] == 2
    compare_imports(cluster, tmp_path, "retrieved")


@slow
def test_a_part_that_always_kills_is_said_or_replaced(cluster):
    with pytest.raises(ExecutorError, match=r"lost 1 times.*remedy"):
        list(RayExecutor(tries=1).map(always_dies, None, range(3)))
    engine = RayExecutor(tries=2)
    done = list(engine.map(always_dies, None, range(3), lost=lambda part, reason: (part, reason)))
    assert (done[0], done[2]) == (0, 2)
    assert done[1] == (1, "its worker was lost 2 times (WorkerCrashedError)")
    engine.close()  # the cluster is not its own
    assert list(cluster.map(scaled, 1, range(2))) == [0, 1]


@slow
def test_errors_come_out_as_they_would_here(cluster):
    for part, kind, text in (
        (2, ValidationError, "part 2 breaks a rule"),
        (3, MissingExtraError, r"goalrank\[ray\]"),
        (4, KeyError, "a fault of ours"),
        (5, DataError, "plain"),
    ):
        with pytest.raises(kind, match=text) as met:
            list(cluster.map(refuses, None, [0, part]))
        assert type(met.value).__name__.endswith(kind.__name__)


def assert_same(mine: Requests, theirs: Requests) -> None:
    assert mine.info == theirs.info
    assert mine.frame.equals(theirs.frame, null_equal=True)


def compare_imports(cluster, tmp_path, protocol: str) -> None:
    exposed = protocol == "exposed"
    source = "kuairand" if exposed else "movielens"
    folder = (kuairand_folder if exposed else movielens_folder)(tmp_path / "log")
    options = {"protocol": protocol, "first_fit": 200} if exposed else {
        **OPTIONS, "protocol": protocol
    }  # fmt: skip
    here = import_log(source, folder, options)
    there = import_log(source, folder, options, executor=cluster)
    assert len(here.train) > 20
    for part in ("train", "validation", "test"):
        assert_same(getattr(there, part), getattr(here, part))
    assert there.report["recall"] == here.report["recall"]


@slow
@pytest.mark.parametrize("protocol", ["exposed", "injected"])
def test_other_protocols_are_equal_bit_for_bit(cluster, tmp_path, protocol):
    compare_imports(cluster, tmp_path, protocol)


def shards(folder, rows: int = 70):
    """Three shards of different sizes with small row groups, and side tables."""
    for seed in range(3):
        table = make_table(rows - 20 * seed, seed=seed)
        Requests.append(folder, table)
    return folder


@slow
def test_lists_are_equal_whatever_the_engine(cluster, tmp_path):
    requests, bundle = shards(tmp_path / "requests"), make_bundle(reward=False)
    one = bundle.rank_file(requests, tmp_path / "one.parquet")
    want = pl.read_parquet(one)
    for name, engine in (("here", None), ("threads", LocalExecutor(2)), ("there", cluster)):
        out = f"file://{tmp_path}/{name}.parquet"
        count = rank_dataset(bundle, f"file://{requests}", out, executor=engine, part_rows=32)
        assert count == len(want) == 150
    here, threads, there = (
        pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("here", "threads", "there")
    )
    assert there.equals(here)
    assert threads.equals(here)
    assert here.drop("log_prob").equals(want.drop("log_prob"))
    assert (here["log_prob"] - want["log_prob"]).abs().to_numpy().max() < 1e-4
    rank_dataset(bundle, str(requests), str(tmp_path / "parts"), executor=cluster, part_rows=32)
    assert pl.read_parquet(tmp_path / "parts" / "part-*.parquet").equals(here)


@slow
def test_faulty_rows_are_told_from_there(cluster, tmp_path):
    frame = make_table(40).frame.with_columns(shown=pl.lit([99], pl.List(pl.Int32)))
    bad = Requests.__new__(Requests)
    bad.frame, bad.items, bad.users, bad.info = frame, None, None, make_table(40).info
    bad.write(tmp_path / "bad.parquet")
    with pytest.raises(ValidationError, match="counted from request"):
        rank_dataset(make_bundle(reward=False), str(tmp_path / "bad.parquet"),
                     str(tmp_path / "out.parquet"), executor=cluster)  # fmt: skip
    assert not (tmp_path / "out.parquet").exists()


@slow
def test_a_benchmark_writes_the_same_ledger(cluster, tmp_path):
    suite = make_suite(write_data(tmp_path / "data"), ["dnn", "mmr", "baselines"], seeds=[0])
    local = run_suite(suite, tmp_path / "local", jobs=1, accelerator="cpu")
    there = run_suite(suite, tmp_path / "ray", executor=cluster, accelerator="cpu")
    assert (there.ran, there.failed) == (local.ran, local.failed)
    again = run_suite(suite, tmp_path / "ray", executor=cluster, accelerator="cpu")
    assert (again.ran, again.before) == (0, there.ran)
    tables = [
        Ledger(tmp_path / name).read().sort("ranker").select("ranker", "status", "ndcg@3", "key")
        for name in ("local", "ray")
    ]
    assert tables[0].equals(tables[1])
