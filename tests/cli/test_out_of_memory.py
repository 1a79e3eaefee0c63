"""Memory that runs out: what happened and the way on, also where a library ends the process."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
import typer
from typer.testing import CliRunner

from goalrank.cli.common import verb
from goalrank.errors import DataError, is_out_of_memory

FAR_TOO_MUCH = 2**56


def of_numpy() -> None:
    np.ones(FAR_TOO_MUCH // 8)


def of_torch() -> None:
    torch.empty(FAR_TOO_MUCH, dtype=torch.uint8)


def of_arrow() -> None:
    pa.allocate_buffer(FAR_TOO_MUCH)


def of_python() -> None:
    bytearray(FAR_TOO_MUCH)


def of_the_system() -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def of_an_accelerator() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …")


@pytest.mark.parametrize(
    "ask", [of_numpy, of_torch, of_arrow, of_python, of_the_system, of_an_accelerator]
)
def test_libraries_that_say_so(ask):
    app = typer.Typer()
    app.command()(verb()(ask))
    result = CliRunner().invoke(app, [])
    said = " ".join(result.stderr.split())
    assert result.exit_code == 10, said
    assert said.startswith("out of memory: ")
    assert "enforce fail" not in said
    for word in ("remedy: smaller batches", "--batch-size", "more memory"):
        assert word in said
    assert "fault of goalrank" not in said


def test_other_errors_are_not_taken_for_it():
    assert not is_out_of_memory(OSError(errno.ENOSPC, "No space left on device"))
    assert not is_out_of_memory(RuntimeError("a shape does not fit"))
    assert not is_out_of_memory(DataError("'out of memory.parquet' is damaged"))


ABORTS = """
import os, resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
from goalrank.cli import application
from goalrank.cli.common import verb

@verb()
def boom(how: str) -> None:
    if how == "abort":
        os.abort()
    import polars as pl
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28,) * 2)
    pl.int_range(0, 2**33, eager=True)

application.app.command("boom")(boom)
application.main()
"""


@pytest.mark.parametrize("how", ["abort", "polars"])
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux")
def test_a_library_that_ends_the_process(how):
    done = subprocess.run(
        [sys.executable, "-c", ABORTS, "boom", how], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == -signal.SIGABRT
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("goalrank was ended by one of its libraries")
    for word in ("memory ran out", "remedy: smaller batches", "--resume"):
        assert word in last


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["nothing"], 2)])
def test_silent_where_nothing_aborted(arguments, code):
    done = subprocess.run(
        [sys.executable, "-m", "goalrank", *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code
    assert "ended" not in done.stderr
