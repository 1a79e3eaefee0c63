"""Benchmark of the server under load: latency with the durable write, batches, start and memory.

    python perf/serve.py --quick    # a minute
    python perf/serve.py --record   # writes results/serve.json, the table and the picture in docs

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
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from bench import ROOT, machine, replace_file
from goalrank.bundles.onnx.graph import load_graph
from goalrank.rankers import parameter_count
from goalrank.storage import whole_file
from load_generator import Answers, Client, Step, closed_loop, encoded, open_loop
from overload import DEADLINE, beside_large, item_table, overload, picture, saturation
from served import HOST, H, L, N, cpu_seconds, make_bodies, make_bundle, resident, server

START, END = "<!-- serve:start -->", "<!-- serve:end -->"


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
    if settings.backend != "torch":  # "auto" takes a graph that is kept, and makes none
        progress.console.print("exporting the graph (once per bundle) …")
        load_graph(folder / "bundle", export=True)
    plain = make_bodies(256)
    bodies = [encoded(body) for body in plain]
    batches = [encoded({"requests": plain[i : i + 128]}) for i in (0, 128)]
    item_table().write_parquet(folder / "items.parquet")
    options = ["--backend", settings.backend, "--workers", str(settings.workers)]
    options += ["--items", "items.parquet", "--no-access-log"]
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
        step = bar("overload", 3)
        full = saturation(port, bodies, settings.load / 4)
        step(1)
        over, parts = overload(port, bodies, max(full["rate"]), settings.load)
        step(1)
        large = beside_large(port, bodies, settings.rate, settings.single)
        step(1)
    answers = [*paced["even"], *paced["random"], many, long]
    phases = [f"{name}, round {turn + 1}" for name in paced for turn in range(settings.rounds)]
    phases += ["batches", "memory"]
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
        "saturation": full, "overload": over, "overload_windows": parts, "beside_large": large,
        "failed": sum(each.failed for each in answers),
        "failures": {
            f"{name}: {reason}": count
            for name, each in zip(phases, answers)
            for reason, count in each.failures.items()
        },
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
        for target, reached in [
            ("≤ 8", median(rounds) <= 8) if (q, name) == ("p99", "random") else ("", None)
        ]
    ]  # fmt: skip
    return [
        *paced,
        Figure("CPU time per request", found["processor_ms"], "ms"),
        Figure("one PRM pass at equal width", prm, "ms"),
        Figure("p50 even / PRM pass", even["p50"] / prm, "×"),
        Figure("p99 even / PRM pass", even["p99"] / prm, "×"),
        Figure("rank:batch", lists, "lists/s", "≥ 3,000", lists >= 3000),
        Figure("single requests, 8 callers", found["closed_loop_requests_s"], "lists/s"),
        Figure("start to ready", ready, "s", "≤ 2", ready <= 2),
        Figure("memory at the end", found["memory_mb"][-1][1], "MB"),
        Figure("growth over the second half", growth, "MB/100,000", "≤ 5", growth <= 5),
        Figure("failed or degraded", found["failed"] + found["degraded"], "answers", "0",
               found["failed"] + found["degraded"] == 0),
        *_overload_figures(found),
    ]  # fmt: skip


def _overload_figures(found: dict[str, Any]) -> list[Figure]:
    full, over, large = found["saturation"], found["overload"], found["beside_large"]
    quick = [rate for rate, late in zip(full["rate"], full["p99_ms"]) if late <= 50]
    rate = max(quick, default=0.0)
    alone, limit = large["alone_p99_ms"], DEADLINE * 1e3
    return [
        Figure("most answers with p99 ≤ 50 ms", rate, "/s", "≥ 400", rate >= 400),
        Figure("capacity: most answers within the deadline", over["capacity"], "/s"),
        Figure("its p99", full["p99_ms"][full["rate"].index(max(full["rate"]))], "ms"),
        Figure("offered in the overload", over["offered"] / over["capacity"], "× capacity"),
        Figure("goodput in the overload", 100 * over["share"], "% of capacity", "≥ 80",
               over["share"] >= 0.8),
        Figure("p99 of what is answered in the overload", over["p99_ms"], "ms", f"≤ {limit:g}",
               over["p99_ms"] <= limit),
        Figure("p99 of a refusal in the overload", over["shed_p99_ms"], "ms"),
        Figure("recovery after the overload", over["recovery_s"], "s", "≤ 2",
               over["recovery_s"] <= 2),
        Figure("p99 beside no large request", alone, "ms"),
        *(
            figure
            for name, words in (("rules", "four rules, N 500, L 50"), ("candidates", "N 10,000"))
            for figure in (
                Figure(f"slowest large request ({words})", large[f"{name}_worst_ms"], "ms",
                       f"≤ {limit:g}", large[f"{name}_worst_ms"] <= limit),
                Figure("p99 of others beside it", large[f"{name}_p99_ms"], "ms",
                       "≤ 2 × alone", large[f"{name}_p99_ms"] <= 2 * alone),
            )
        ),
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


def markdown(rows: list[Figure], note: str) -> str:
    """Write the rows as a Markdown table.

    Args:
        rows: the rows.
        note: what was measured, and where.
    """
    lines = [note, "", "| what | measured | to reach | reached |", "|---|---|---|---|"]
    for row in rows:
        reached = {True: "yes", False: "**no**", None: ""}[row.reached]
        among = f" ({min(row.rounds):.1f}–{max(row.rounds):.1f})" if row.rounds else ""
        lines.append(
            f"| {row.name} | {row.value:,.2f} {row.unit}{among} | {row.target} | {reached} |"
        )
    return "\n".join(lines)


def record(content: dict[str, Any], rows: list[Figure], note: str) -> None:
    """Write the results, the table in docs/performance.md and the picture of the overload.

    Args:
        content: of the results file.
        rows: of the table.
        note: what was measured, and where.
    """
    replace_file(ROOT / "results" / "serve.json", json.dumps(content, indent=1) + "\n")
    image = ROOT / "docs" / "images" / "overload.svg"
    picture(content["overload_windows"], content["overload"], image)
    page = ROOT / "docs" / "performance.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    replace_file(page, f"{before}{START}\n{markdown(rows, note)}\n{END}{after}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few requests")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument(
        "--record", action="store_true", help="write them to results/ and docs/performance.md"
    )
    parser.add_argument("--backend", choices=["torch", "onnx", "auto"], default="auto")
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
    parser.add_argument("--load", type=float, help="seconds of overload (20; quick 4)")
    settings = parser.parse_args()
    for name, full, quick in (
        ("rounds", 7, 1),
        ("single", 2000, 1000),
        ("batches", 200, 30),
        ("requests", 200_000, 2000),
        ("load", 20.0, 4.0),
    ):
        if getattr(settings, name) is None:
            setattr(settings, name, quick if settings.quick else full)
    console, before = Console(stderr=True), os.getloadavg()[0]
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
    about = machine(torch.get_num_threads())
    content = {"machine": about, "backend": settings.backend, "workers": settings.workers,
               "load_average_before": before, **found,
               "figures": [asdict(row) for row in rows]}  # fmt: skip
    if settings.json is not None:
        with whole_file(settings.json) as temporary:
            Path(temporary).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if settings.record:
        busy = f"load average {before:.1f} before the run"
        record(content, rows, f"Measured on {about['cpu']}, {busy}: {note}.")


if __name__ == "__main__":
    main()
