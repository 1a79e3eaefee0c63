"""Benchmark of the server under load: latency with the durable write, batches, start and memory.

    python perf/serve.py --quick               # a minute
    python perf/serve.py --json serve.json     # the figures, 200,000 requests

It makes a bundle of 1 M parameters with random weights (the measurements do not depend on them),
starts `goalrank serve` and sends requests over the loopback interface. The load generator runs on
the same cores as the server, so its CPU time is part of the figures. Percentiles of single requests
are medians over rounds, with the smallest and the largest round: one flush of a busy disk can
double the p99 of a round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from goalrank.bundles import Bundle
from goalrank.bundles.onnx.graph import load_graph
from goalrank.rankers import RankerConfig, build_ranker, parameter_count
from goalrank.requests import Encoder, Requests, whole_file
from load_generator import Answers, Client, Step, closed_loop, encoded, open_loop

ITEMS, USERS, N, H, L = 3000, 500, 50, 50, 6
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        name: what was measured.
        value: the measured value.
        unit: its unit.
        target: value to reach, as text.
        reached: whether it was reached; None without a target.
        rounds: value of each round; None for a single measurement.
    """

    name: str
    value: float
    unit: str
    target: str = ""
    reached: bool | None = None
    rounds: list[float] | None = None


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


def prm_pass(repeats: int) -> float:
    """Measure the median seconds of one PRM pass on one request, at equal width, on one thread.

    Args:
        repeats: number of passes; the first tenth is not counted.
    """
    bundle = make_bundle("prm")
    rows = [
        body
        | {"request_id": "", "time": datetime(2024, 6, 1, tzinfo=UTC)}
        | {"history_time": [datetime.fromisoformat(each) for each in body["history_time"]]}
        for body in make_bodies(1)
    ]
    batch = bundle.encoder.encode_flat(bundle.encoder.flat(rows)).batch(slice(0, 1))
    torch.set_num_threads(1)
    seconds = []
    with torch.inference_mode():
        for _ in range(repeats):
            began = time.perf_counter()
            bundle.ranker.encode(batch)
            seconds.append(time.perf_counter() - began)
    return float(np.median(seconds[repeats // 10 :]))


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


def resident(pid: int) -> float:
    """Measure the memory of a process and all its children in MB.

    Args:
        pid: of the process.
    """
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


def soak(
    pid: int, port: int, bodies: list[bytes], count: int, bar: Step
) -> tuple[Answers, list[tuple[int, float]]]:
    """Send single requests by eight callers and measure the memory forty times.

    Args:
        pid: of the server.
        port: of the server.
        bodies: of the requests, sent in turn.
        count: number of requests.
        bar: progress bar.

    Returns:
        The answers, and (requests so far, MB).
    """
    every, seen = max(count // 40, 1), [(0, resident(pid))]

    async def between(i: int) -> None:
        if (i + 1) % every == 0:
            seen.append((i + 1, resident(pid)))

    client = Client(HOST, port, "/v1/rank")
    return asyncio.run(closed_loop(client, bodies, count, 8, bar, between)), seen


def measure(settings: argparse.Namespace, folder: Path, progress: Progress) -> dict[str, Any]:
    """Measure every figure.

    Args:
        settings: of the command line.
        folder: an empty folder.
        progress: shows progress bars.
    """
    bundle = make_bundle()
    bundle.save(folder / "bundle")
    if settings.backend == "onnx":
        progress.console.print("exporting the graph (once per bundle) …")
        load_graph(folder / "bundle", export=True)
    plain = make_bodies(256)
    bodies = [encoded(body) for body in plain]
    batches = [encoded({"requests": plain[i : i + 128]}) for i in (0, 128)]
    options = ["--backend", settings.backend, "--workers", str(settings.workers)]
    prm = prm_pass(60 if settings.quick else 400)

    def bar(name: str, total: int) -> Step:
        task = progress.add_task(name, total=total)
        return lambda n: progress.advance(task, n)

    with server(folder, options) as (process, port, ready):
        client = Client(HOST, port, "/v1/rank")
        asyncio.run(open_loop(client, bodies, 50, 100, lambda _: None))
        client = Client(HOST, port, "/v1/rank")
        spent = cpu_seconds(process.pid)
        paced: dict[str, list[Answers]] = {"even": [], "random": []}
        step = bar(f"{settings.rate:g} requests/s", 2 * settings.rounds)
        for turn in range(settings.rounds):
            for name, rounds in paced.items():
                client = Client(HOST, port, "/v1/rank")
                rounds.append(asyncio.run(open_loop(
                    client, bodies, settings.rate, settings.single, lambda _: None,
                    even=name == "even", seed=turn,
                )))  # fmt: skip
                step(1)  # not during the requests: drawing the bar would delay them
        spent = (cpu_seconds(process.pid) - spent) / (2 * settings.rounds * settings.single)
        client = Client(HOST, port, "/v1/rank:batch")
        began = time.perf_counter()
        step = bar("batches of 128", settings.batches)
        many = asyncio.run(
            closed_loop(client, batches, settings.batches, 2 * settings.workers, step)
        )
        lists = 128 * len(many.seconds) / (time.perf_counter() - began)
        step = bar("memory", settings.requests)
        began = time.perf_counter()
        long, memory = soak(process.pid, port, bodies, settings.requests, step)
        closed = len(long.seconds) / (time.perf_counter() - began)
    answers = [*paced["even"], *paced["random"], many, long]
    return {
        "parameters": parameter_count(bundle.ranker), "prm_ms": prm * 1e3, "ready_s": ready,
        "single_ms": {
            name: {
                f"p{q}": [float(np.percentile(found.seconds, q)) * 1e3 for found in rounds]
                for q in (50, 95, 99)
            }
            for name, rounds in paced.items()
        },
        "processor_ms": spent * 1e3, "batch_lists_s": lists, "closed_loop_requests_s": closed, "memory_mb": memory,
        "failed": sum(each.failed for each in answers),
        "degraded": sum(each.degraded for each in answers),
    }  # fmt: skip


def slope(memory: list[tuple[int, float]]) -> float:
    """Fit the growth of memory in MB per 100,000 requests, over the second half.

    Args:
        memory: (requests so far, MB).
    """
    late = np.array(memory[len(memory) // 2 :])
    return float(np.polyfit(late[:, 0], late[:, 1], 1)[0] * 1e5) if len(late) > 1 else 0.0


def figures(found: dict[str, Any], rate: float) -> list[Figure]:
    """Make the rows of the table.

    Args:
        found: of `measure`.
        rate: requests per second.
    """
    prm, ready = found["prm_ms"], found["ready_s"]
    even = {q: median(rounds) for q, rounds in found["single_ms"]["even"].items()}
    growth, lists = slope(found["memory_mb"]), found["batch_lists_s"]
    paced = [
        Figure(f"{q} at {rate:g} requests/s, {name}", median(rounds), "ms", target, reached, rounds)
        for name, values in found["single_ms"].items()
        for q, rounds in values.items()
        for target, reached in [("≤ 10", median(rounds) <= 10) if q == "p99" else ("", None)]
    ]  # fmt: skip
    return [
        *paced,
        Figure("CPU time per request", found["processor_ms"], "ms"),
        Figure("one PRM pass at equal width", prm, "ms"),
        Figure("p50 even / PRM pass", even["p50"] / prm, "×"),
        Figure("p99 even / PRM pass", even["p99"] / prm, "×"),
        Figure("rank:batch", lists, "lists/s", "≥ 1,000", lists >= 1000),
        Figure("single requests, 8 callers", found["closed_loop_requests_s"], "lists/s"),
        Figure("start to ready", ready, "s", "≤ 5", ready <= 5),
        Figure("memory at the end", found["memory_mb"][-1][1], "MB"),
        Figure("growth over the second half", growth, "MB/100,000", "≤ 5", growth <= 5),
        Figure("failed or degraded", found["failed"] + found["degraded"], "answers", "0",
               found["failed"] + found["degraded"] == 0),
    ]  # fmt: skip


def show(console: Console, rows: list[Figure], note: str) -> None:
    """Print the table.

    Args:
        console: where it is printed.
        rows: its rows.
        note: its caption.
    """
    table = Table("what", "measured", "to reach", "reached", caption=note)
    for row in rows:
        mark = "" if row.reached is None else "yes" if row.reached else "[red]no"
        among = f" ({min(row.rounds):.1f}–{max(row.rounds):.1f})" if row.rounds else ""
        table.add_row(row.name, f"{row.value:,.2f} {row.unit}{among}", row.target, mark)
    console.print(table)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few requests")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--backend", choices=["torch", "onnx"], default="onnx")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rate", type=float, default=100.0, help="requests per second")
    parser.add_argument(
        "--rounds", type=int, help="of single requests; percentiles are medians (7; quick 1)"
    )
    parser.add_argument(
        "--single", type=int, help="requests at that rate per round (2,000; quick 1,000)"
    )
    parser.add_argument("--batches", type=int, help="of 128 requests (200; quick 30)")
    parser.add_argument("--requests", type=int, help="for memory (200,000; quick 2,000)")
    settings = parser.parse_args()
    for name, full, quick in (
        ("rounds", 7, 1),
        ("single", 2000, 1000),
        ("batches", 200, 30),
        ("requests", 200_000, 2000),
    ):
        if getattr(settings, name) is None:
            setattr(settings, name, quick if settings.quick else full)
    console = Console(stderr=True)
    columns = (
        "[progress.description]{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(*columns, console=console, refresh_per_second=0.2) as progress,
    ):
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        found = measure(settings, Path(folder), progress)
    rows = figures(found, settings.rate)
    note = (
        f"{found['parameters']:,} parameters, N {N}, H {H}, L {L}; backend {settings.backend}, "
        f"{settings.workers} worker(s); load generator on the same {os.cpu_count()} cores"
    )
    show(Console(), rows, note)
    if settings.json is not None:
        content = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(),
                   "backend": settings.backend, "workers": settings.workers, **found,
                   "figures": [asdict(row) for row in rows]}  # fmt: skip
        with whole_file(settings.json) as temporary:
            Path(temporary).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
