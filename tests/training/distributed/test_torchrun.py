"""`goalrank train` under torchrun: equal to one process, and whole after a process was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from safetensors.torch import load_file

from goalrank.requests import Requests
from tests.tables import make_table
from tests.training.distributed.same import assert_same_weights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores"),
]
SETTINGS = [
    "light=['dnn']", "light_loop.steps=4", "light_loop.batch_size=16",
    "ranker.width=16", "ranker.layers=1", "ranker.heads=2", "ranker.dropout=0",
    "ranker.id_dropout=0", "ranker.slots=3", "reward.width=16", "reward.heads=2",
    "reward.dropout=0", "reward.id_dropout=0", "reward.loop.steps=4", "reward.loop.batch_size=16",
    "training.steps=40", "training.batch_size=15", "training.validate_every=4",
    "training.patience=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("torchrun") / "data"
    for seed, part in enumerate(("train", "validation")):
        make_table(60, seed=seed).write(folder / f"{part}.parquet")
    return folder


def command(data: Path, out: Path, *more: str, torchrun: tuple[str, ...] | None = ()) -> list[str]:
    start = [sys.executable]
    if torchrun is not None:
        start += ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
        start += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", *torchrun]
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    verb = ["train", str(data), "--out", str(out), "--accelerator", "cpu", *sets, *more]
    return [*start, "-m", "goalrank", *verb]


def train(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    made = command(*arguments, **options)  # type: ignore[arg-type]
    return subprocess.run(made, env=environment, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def two(data, tmp_path_factory) -> Path:
    """What two processes make, undisturbed."""
    out = tmp_path_factory.mktemp("torchrun") / "two"
    done = train(data, out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == 1  # one process speaks
    return out


def weights(out: Path, name: str = "ranker") -> dict[str, Any]:
    return load_file(out / "bundle" / f"{name}.safetensors")


def test_bundle_equals_that_of_one_process(data, two, tmp_path):
    done = train(data, tmp_path / "one", torchrun=None)
    assert done.returncode == 0, done.stderr
    assert_same_weights(weights(two), weights(tmp_path / "one"))
    assert_same_weights(weights(two, "reward"), weights(tmp_path / "one", "reward"))


def test_spread_parameters_give_the_same_bundle(data, two, tmp_path):
    done = train(data, tmp_path / "out", "--strategy", "fsdp", "--shard-items")
    assert done.returncode == 0, done.stderr
    assert_same_weights(weights(tmp_path / "out"), weights(two))


def test_killed_process_costs_a_restart_and_not_the_result(data, two, tmp_path):
    out = tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = command(data, out, torchrun=("--max-restarts", "2"))
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(started, env=environment, stdout=log, stderr=log)
        try:
            checkpoint = out / "run" / "goalrank" / "checkpoints" / "last.ckpt"
            until = time.monotonic() + 200
            while not checkpoint.exists() and time.monotonic() < until:
                assert job.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.01)
            os.kill(process_of(rank=1, out=out), signal.SIGKILL)
            assert not (out / "bundle").exists()  # in the middle
            assert job.wait(250) == 0, (tmp_path / "log").read_text()
        finally:
            job.kill()
    assert list((out / "run" / "goalrank" / "log").glob("metrics-*.csv"))  # it was interrupted
    mine, theirs = weights(out), weights(two)
    assert all(mine[name].equal(theirs[name]) for name in theirs)


def process_of(rank: int, out: Path) -> int:
    """The worker of that rank whose command line names the folder."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(out).encode() in words and f"RANK={rank}".encode() in variables:
            return int(folder.name)
    raise AssertionError(f"no process of rank {rank}")


def test_each_process_reads_its_own_rows(data, tmp_path):
    table = Requests.read(data / "train.parquet")
    parts = tmp_path / "parts"
    for first, last in ((0, 7), (7, 40), (40, 60)):  # shards of uneven sizes
        Requests.append(parts / "train", table.take(range(first, last)))
    Requests.read(data / "validation.parquet").write(parts / "validation.parquet")
    done = train(parts, tmp_path / "out", "--split-data")
    assert done.returncode == 0, done.stderr
    ids = pl.read_parquet(tmp_path / "out" / "bundle" / "items.ids.parquet")["id"]
    known = pl.concat([table.frame["candidates"].explode(), table.frame["history"].explode()])
    assert ids.sort().to_list() == sorted(set(known.drop_nulls().to_list()))  # of both processes
    shard = sorted((parts / "train").glob("part-*.parquet"))[1]
    shard.write_bytes(shard.read_bytes()[:-200])
    done = train(parts, tmp_path / "again", "--split-data")
    assert done.returncode != 0
    assert shard.name in done.stderr
    assert "remedy" in done.stderr


def test_numbers_that_torchrun_does_not_have_are_refused(data, tmp_path):
    done = train(data, tmp_path / "out", "--nodes", "4", "--devices", "8")
    assert done.returncode != 0
    assert "is 32, but torchrun started 2" in done.stderr
