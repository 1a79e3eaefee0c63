"""Load beyond what a server can do: saturation, five times the capacity, and the worst request.

Used by `perf/serve.py`. Everything is seen from outside, over the loopback interface, by a load
generator that shares the cores with the server.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl
from matplotlib import rc_context
from matplotlib.figure import Figure

from load_generator import Client, encoded, open_loop
from served import HOST, ITEMS, USERS

DEADLINE = 0.5  # seconds, as the server's default
WINDOW_S = 0.5  # of the picture
CALLERS = (8, 16, 32, 64)


@dataclass(frozen=True)
class Sent:
    """One request.

    Attributes:
        due: second of the run at which it was due.
        seconds: from then until its answer.
        status: of the answer; 0 if the connection broke.
        degraded: whether its list is in the retriever's order.
    """

    due: float
    seconds: float
    status: int
    degraded: bool

    @property
    def good(self) -> bool:
        """Whether the model's list came within the deadline."""
        return self.status == 200 and not self.degraded and self.seconds <= DEADLINE


async def until_over(
    port: int, bodies: Sequence[bytes], callers: int, seconds: float
) -> list[Sent]:
    """Send requests by several callers, each of whom waits for its answer, for some time.

    Args:
        port: of the server.
        bodies: of the requests, sent in turn.
        callers: number of callers.
        seconds: of the run.
    """
    client, out = Client(HOST, port, "/v1/rank"), list[Sent]()
    began = perf_counter()

    async def caller(at: int) -> None:
        while (due := perf_counter() - began) < seconds:
            status, text = await client.post(bodies[at % len(bodies)])
            out.append(_sent(due, began, status, text))
            at += callers

    await asyncio.gather(*(caller(i) for i in range(callers)))
    client.close()
    return out


async def at_rates(
    port: int, bodies: Sequence[bytes], phases: Sequence[tuple[float, float]], seed: int = 0
) -> list[Sent]:
    """Send requests at random moments, at one rate after the other, whatever is answered.

    Args:
        port: of the server.
        bodies: of the requests, sent in turn.
        phases: (requests per second, seconds), one after the other.
        seed: of the moments.
    """
    client, out = Client(HOST, port, "/v1/rank"), list[Sent]()
    tasks: set[asyncio.Task[None]] = set()
    began = perf_counter()

    async def one(body: bytes, due: float) -> None:
        status, text = await client.post(body)
        out.append(_sent(due, began, status, text))

    for i, due in enumerate(moments(phases, seed)):
        if (wait := due - (perf_counter() - began)) > 0:
            await asyncio.sleep(wait)
        elif i % 8 == 0:
            await asyncio.sleep(0)
        task = asyncio.create_task(one(bodies[i % len(bodies)], due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    client.close()
    return out


def moments(phases: Sequence[tuple[float, float]], seed: int) -> list[float]:
    """Draw the moments of a Poisson process whose rate changes.

    Args:
        phases: (requests per second, seconds), one after the other.
        seed: of the draw.

    Returns:
        Seconds from the start, in order.
    """
    rng, out, end = random.Random(seed), list[float](), 0.0
    for rate, seconds in phases:
        due, end = end, end + seconds
        while (due := due + rng.expovariate(rate)) < end:
            out.append(due)
    return out


def _sent(due: float, began: float, status: int, text: bytes) -> Sent:
    return Sent(due, perf_counter() - began - due, status, b'"degraded":true' in text)


def saturation(port: int, bodies: Sequence[bytes], seconds: float) -> dict[str, list[float]]:
    """Measure how much a server does for callers who never pause.

    Args:
        port: of the server.
        bodies: of the requests.
        seconds: per number of callers.

    Returns:
        Number of callers, good answers per second, their p99 in ms, and answers that were not
        good; an entry for each of `CALLERS`.
    """
    out: dict[str, list[float]] = {"callers": [], "rate": [], "p99_ms": [], "not_good": []}
    for callers in CALLERS:
        sent = asyncio.run(until_over(port, bodies, callers, seconds))
        good = [each.seconds for each in sent if each.good]
        out["callers"].append(callers)
        out["rate"].append(len(good) / seconds)
        out["p99_ms"].append(percentile(good, 99) * 1e3)
        out["not_good"].append(len(sent) - len(good))
    return out


def overload(
    port: int, bodies: Sequence[bytes], capacity: float, seconds: float
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Offer half the capacity, five times the capacity, and half the capacity again.

    Args:
        port: of the server.
        bodies: of the requests.
        capacity: requests per second that it answers well.
        seconds: of the overload; what comes before takes a quarter of it, what comes after half.

    Returns:
        The figures, and what happened in each window of `WINDOW_S`.
    """
    before, after = seconds / 4, seconds / 2
    phases = [(capacity / 2, before), (5 * capacity, seconds), (capacity / 2, after)]
    sent = asyncio.run(at_rates(port, bodies, phases))
    end = before + seconds
    during = [each for each in sent if before <= each.due < end]
    good = [each for each in during if each.good]
    answered = [each.seconds for each in during if each.status == 200]
    bad = [each.due + min(each.seconds, 10) for each in sent if each.due >= end and not each.good]
    figures = {
        "capacity": capacity,
        "offered": len(during) / seconds,
        "goodput": len(good) / seconds,
        "share": len(good) / seconds / capacity,
        "p50_ms": percentile(answered, 50) * 1e3,
        "p99_ms": percentile(answered, 99) * 1e3,
        "shed_p99_ms": percentile([e.seconds for e in during if e.status == 503], 99) * 1e3,
        "shed": sum(each.status == 503 for each in during) / seconds,
        "degraded": sum(each.degraded for each in during) / seconds,
        "broken": float(sum(each.status not in (200, 503) for each in sent)),
        "recovery_s": max(bad, default=end) - end,
        "overload_from_s": before,
        "overload_to_s": end,
    }
    return figures, windows(sent, end + after)


def windows(sent: Sequence[Sent], end: float) -> list[dict[str, float]]:
    """Count what happened to the requests that were due in each window.

    Args:
        sent: the requests.
        end: second at which the run ended.
    """
    parts: list[list[Sent]] = [[] for _ in range(int(np.ceil(end / WINDOW_S)))]
    for each in sent:
        parts[min(int(each.due / WINDOW_S), len(parts) - 1)].append(each)
    return [
        {
            "second": (i + 0.5) * WINDOW_S,
            "offered": len(part) / WINDOW_S,
            "served": sum(each.good for each in part) / WINDOW_S,
            "shed": sum(each.status == 503 for each in part) / WINDOW_S,
            "p99_ms": percentile([e.seconds for e in part if e.status == 200], 99) * 1e3,
        }
        for i, part in enumerate(parts)
    ]


def beside_large(port: int, bodies: Sequence[bytes], rate: float, count: int) -> dict[str, float]:
    """Measure the requests beside the largest ones that are accepted, sent one after the other.

    Args:
        port: of the server.
        bodies: of the usual requests.
        rate: usual requests per second, at random moments.
        count: usual requests, with and without large ones beside them.
    """
    out: dict[str, float] = {}
    quiet = asyncio.run(_with(port, bodies, rate, count, None))
    out["alone_p99_ms"] = percentile(quiet[0], 99) * 1e3
    for name, body in large_bodies().items():
        usual, large = asyncio.run(_with(port, bodies, rate, count, encoded(body)))
        out[f"{name}_p99_ms"] = percentile(usual, 99) * 1e3
        out[f"{name}_worst_ms"] = max((each.seconds for each in large), default=np.nan) * 1e3
        out[f"{name}_refused"] = float(sum(each.status != 200 for each in large))
        out[f"{name}_degraded"] = float(sum(each.degraded for each in large))
        out[f"{name}_sent"] = float(len(large))
    return out


def large_bodies() -> dict[str, dict[str, Any]]:
    """Make the largest requests: rules over 500 candidates and 50 slots, and 10,000 candidates."""
    rng = np.random.default_rng(2)

    def body(count: int, slots: int) -> dict[str, Any]:
        return {
            "user_id": int(rng.integers(USERS)), "slots": slots, "missing": "mean",
            "candidates": rng.permutation(max(count, ITEMS))[:count].tolist(),
            "candidate_score": rng.normal(size=count).round(4).tolist(),
        }  # fmt: skip

    rules = {
        "at_most": [{"by": "kind", "most": 3}, {"by": "maker", "most": 2}],
        "at_least": [{"by": "fresh", "value": True, "least": 20}],
        "dedupe": "title",
    }
    return {"rules": body(500, 50) | {"rules": rules}, "candidates": body(10_000, 6)}


def item_table() -> pl.DataFrame:
    """Make the side table of items that the rules of `large_bodies` read."""
    ids = np.arange(ITEMS)
    columns = {"kind": ids % 23, "maker": ids % 101, "fresh": ids % 3 == 0, "title": ids // 2}
    return pl.DataFrame({"item_id": ids, **columns})


async def _with(
    port: int, bodies: Sequence[bytes], rate: float, count: int, large: bytes | None
) -> tuple[list[float], list[Sent]]:
    """Send usual requests, and a large one after the other beside them."""
    client, out, began = Client(HOST, port, "/v1/rank"), list[Sent](), perf_counter()

    async def keep_sending(body: bytes) -> None:
        while True:
            due = perf_counter() - began
            out.append(_sent(due, began, *await client.post(body)))

    beside = None if large is None else asyncio.create_task(keep_sending(large))
    usual = await open_loop(client, bodies, rate, count, lambda _: None)
    if beside is not None:
        beside.cancel()
    return usual.seconds, out


def percentile(seconds: Sequence[float], q: float) -> float:
    """A percentile; NaN of none.

    Args:
        seconds: the values.
        q: of 100.
    """
    return float(np.percentile(seconds, q)) if seconds else float("nan")


def picture(parts: Sequence[dict[str, float]], found: dict[str, float], path: Path) -> None:
    """Draw an overload run: requests offered, served and shed, and the p99 of what was answered.

    Args:
        parts: of `overload`.
        found: figures of `overload`.
        path: of the SVG file.
    """
    seconds = [part["second"] for part in parts]
    with rc_context({"svg.hashsalt": "overload", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 5), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        for name, colour in (("offered", "#888888"), ("served", "#1b7837"), ("shed", "#b2182b")):
            above.plot(seconds, [part[name] for part in parts], label=name, color=colour)
        above.axhline(found["capacity"], color="#1b7837", linestyle=":", label="capacity")
        above.set(ylabel="requests per second", ylim=(0, None))
        below.plot(seconds, [part["p99_ms"] for part in parts], color="#2166ac", label="p99")
        below.axhline(DEADLINE * 1e3, color="#b2182b", linestyle=":", label="deadline")
        below.set(xlabel="second", ylabel="ms", yscale="log")
        for axes in (above, below):
            axes.axvspan(
                found["overload_from_s"], found["overload_to_s"], color="#000000", alpha=0.05
            )
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(loc="upper right")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})
