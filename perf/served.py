"""A server to measure: its bundle, its requests, its process, and what the process uses."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from goalrank.bundles import Bundle
from goalrank.rankers import RankerConfig, build_ranker
from goalrank.requests import Encoder, Requests

ITEMS, USERS, N, H, L = 3000, 500, 50, 50, 6
HOST = "127.0.0.1"


def make_bundle(ranker: str = "goalrank") -> Bundle:
    """Make a bundle of random weights (width 128, two layers), fitted to random requests.

    Args:
        ranker: name of the ranker.
    """
    rng = np.random.default_rng(0)
    noon, rows = datetime(2024, 1, 1, 12, tzinfo=UTC), 400
    frame = pl.DataFrame(
        {
            "request_id": [f"r{i}" for i in range(rows)],
            "user_id": rng.integers(0, USERS, rows),
            "time": [noon + timedelta(days=1, minutes=i) for i in range(rows)],
            "history": rng.integers(0, ITEMS, (rows, H)).tolist(),
            "history_feedback": np.ones((rows, H)).tolist(),
            "history_time": [[noon + timedelta(minutes=k) for k in range(H)]] * rows,
            "candidates": [rng.choice(ITEMS, N, replace=False).tolist() for _ in range(rows)],
            "candidate_score": rng.normal(size=(rows, N)).tolist(),
        }
    )
    encoder = Encoder.fit(Requests(frame))
    torch.manual_seed(0)
    config = RankerConfig(name=ranker, width=128, layers=2, heads=4, slots=L)
    return Bundle(build_ranker(encoder.spec, config), config, encoder, None, {"dataset": "made up"})


def make_bodies(count: int) -> list[dict[str, Any]]:
    """Make requests of N candidates and H events; one id in thirty is unknown to the model.

    Args:
        count: number of requests.
    """
    rng = np.random.default_rng(1)
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    return [
        {
            "user_id": int(rng.integers(0, USERS + 15)),
            "history": rng.integers(0, ITEMS + 100, H).tolist(),
            "history_time": [(noon + timedelta(minutes=k)).isoformat() for k in range(H)],
            "candidates": rng.choice(ITEMS + 100, N, replace=False).tolist(),
            "candidate_score": rng.normal(size=N).round(4).tolist(),
        }
        for _ in range(count)
    ]


@contextmanager
def server(
    folder: Path, options: list[str]
) -> Iterator[tuple[subprocess.Popen[bytes], int, float]]:
    """Run a server.

    Args:
        folder: of the bundle, the store and the log.
        options: of `goalrank serve`.

    Yields:
        Its process, its port, and the seconds until it was ready.

    Raises:
        RuntimeError: it ended, or was not ready within two minutes.
    """
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from goalrank.cli import main; main()", "serve"]
    command += ["--bundle", "bundle", "--port", str(port), "--store", "sqlite:///s.db", *options]
    began = time.perf_counter()
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        while not _ready(port):
            if process.poll() is not None or time.perf_counter() - began > 120:
                raise RuntimeError((folder / "server.log").read_text())
            time.sleep(0.02)
        yield process, port, time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def resident(pid: int | None) -> float:
    """Measure the memory of a process and all its children in MB.

    Args:
        pid: of the process; None is this one.
    """
    pid = pid or os.getpid()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20 + sum(resident(int(c)) for c in children)


def cpu_seconds(pid: int) -> float:
    """Measure the CPU seconds of a process and all its children so far.

    Args:
        pid: of the process.
    """
    spent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = sum(map(int, spent)) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_seconds(int(c)) for c in children)
