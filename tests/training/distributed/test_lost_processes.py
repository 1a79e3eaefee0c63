"""A process that ends or fails: the others say what happened and the way on, and blame nobody else."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from goalrank.errors import ConfigError, OutOfMemoryError, ValidationError, rebuilt_error
from goalrank.training import PeerLostError, lost_processes
from goalrank.training.distributed import lost_processes as module
from tests.tables import make_table
from tests.training.distributed.test_torchrun import command, process_of, train

REPORT = """

-- Process 1 terminated with the following error:
Traceback (most recent call last):
  File "spawn.py", line 7, in _wrap
    fn(i, *args)
ValueError: the first

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "stage.py", line 9, in run
    raise it
{}
"""
GLOO = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer "
    "[127.0.0.1]:34567"
)


def raised(line: str) -> ProcessRaisedException:
    return ProcessRaisedException(REPORT.format(line), 1, 4711)


def test_a_killed_process():
    with (
        pytest.raises(PeerLostError, match=r"process 1 .*SIGKILL.*memory.*--resume") as met,
        lost_processes(),
    ):
        raise ProcessExitedException("process 1 terminated", 1, 4711, -9, "SIGKILL")
    assert "fault" not in str(met.value)


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        ("FloatingPointError: the loss became nan at step 3", FloatingPointError, "^the loss bec"),
        ("goalrank.errors.ConfigError: two\nlines; remedy: x", ConfigError, "^two\nlines; remedy"),
        ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate", OutOfMemoryError, "Unable"),
        ("MemoryError", OutOfMemoryError, "process 1 .*remedy: smaller batches"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried", OutOfMemoryError, "CUDA out of mem"),
        (f"RuntimeError: {GLOO}", PeerLostError, "another process of the job ended.*--resume"),
        ("KeyError: 'lost'", RuntimeError, r"^process 1 of this training failed: KeyError: 'lost'$"),
    ],
)  # fmt: skip
def test_an_error_of_another_process_comes_out(line, kind, text):
    with pytest.raises(kind, match=text), lost_processes():
        raise raised(line)


def test_a_peer_that_went(monkeypatch):
    monkeypatch.setattr(module, "is_distributed", lambda: True)
    with (
        pytest.raises(PeerLostError, match=r"own message.*--resume.*--max-restarts") as met,
        lost_processes(),
    ):
        raise RuntimeError(GLOO)
    assert "gloo" not in str(met.value)
    assert "127.0.0.1" not in str(met.value)
    with pytest.raises(RuntimeError, match="shapes"), lost_processes():
        raise RuntimeError("shapes do not fit")


def test_errors_are_rebuilt_by_name():
    assert type(rebuilt_error("ConfigError", "x")) is ConfigError
    assert rebuilt_error("ValidationError", "x").faults == ()  # type: ignore[attr-defined]
    assert isinstance(rebuilt_error("ValidationError", "x"), ValidationError)
    assert str(rebuilt_error("is_out_of_memory", "of no class")) == "of no class"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lost") / "data"
    for seed, part in enumerate(("train", "validation")):
        make_table(60, seed=seed).write(folder / f"{part}.parquet")
    return folder


def start(arguments: list[str], log: Path, until: Path) -> subprocess.Popen[bytes]:
    with log.open("w") as file:
        job = subprocess.Popen(
            arguments, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=file, stderr=file
        )
    end = time.monotonic() + 200
    while not until.exists():
        assert job.poll() is None, log.read_text()
        assert time.monotonic() < end
        time.sleep(0.01)
    return job


def spawned(parent: int) -> int:
    """The last process that trains, of those that `--devices` started."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                of = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                words = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if of == parent and b"spawn_main" in words:
                found.append(int(folder.name))
    return max(found)


@pytest.mark.slow
def test_a_killed_process_under_devices(data, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    options = ("--devices", "2", "--strategy", "ddp", "--set", "training.steps=2000")
    arguments = command(data, out, *options, torchrun=None)
    job = start(arguments, log, out / "run" / "goalrank" / "checkpoints" / "last.ckpt")
    try:
        os.kill(spawned(job.pid), signal.SIGKILL)
        assert job.wait(120) == 1, log.read_text()
    finally:
        job.kill()
    said = log.read_text()
    assert "fault of goalrank" not in said
    last = said.strip().splitlines()[-1]
    assert "SIGKILL" in last or "another process of the job ended" in last
    assert "--resume" in last


@pytest.mark.slow
def test_the_survivor_under_torchrun(data, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    arguments = command(data, out, "--set", "training.steps=2000")
    job = start(arguments, log, out / "run" / "goalrank" / "checkpoints" / "last.ckpt")
    try:
        os.kill(process_of(rank=1, out=out), signal.SIGKILL)
        assert job.wait(120) != 0
    finally:
        job.kill()
    said = log.read_text()
    assert "fault of goalrank" not in said
    assert "pair.cc" not in said
    assert "another process of the job ended, and this one cannot go on without it" in said
    assert "--resume" in said


@pytest.mark.slow
def test_a_fault_of_the_settings_in_a_started_process(data, tmp_path):
    done = train(
        data, tmp_path / "out", "--devices", "2", "--strategy", "ddp", "--set",
        "training.lr=1e30", "--set", "training.clip=0", torchrun=None,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "the loss became" in done.stderr
    assert "fault of goalrank" not in done.stderr
