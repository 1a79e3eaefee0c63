"""Benchmark of live state: events, lists from state, memory, restart, replay.

    python perf/live.py --scale 0.1   # a tenth of the sizes
    python perf/live.py --record      # writes results/live.json and the table in docs

It makes a log of 10^5 users and 10^5 items, imports it, puts a model of 1 M parameters and random
weights on it (the measurements do not depend on them), starts `goalrank serve --state` and sends
events and requests over the loopback interface, from the same cores. Latency counts from the moment
at which a request was due. `--only NAME` measures one part; figures of the others stay as recorded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import sqlalchemy as sa
from rich.console import Console

from bench import ROOT, machine, replace_file
from goalrank.bundles import Bundle
from goalrank.bundles.onnx.graph import load_graph
from goalrank.logs import read_log
from goalrank.requests import LogRule, TableInfo
from goalrank.serving.state.event_log import EVENTS, EventLog
from goalrank.serving.state.event_rules import EventRules
from goalrank.serving.state.keeper import StateKeeper
from goalrank.serving.state.logged import LoggedEvent
from goalrank.serving.state.replay import replay, replay_log, rows_of
from goalrank.serving.store.database import open_engine
from live_world import START, write_bundle, write_log, write_snapshot
from load_generator import Answers, Client, closed_loop, encoded, open_loop
from serve import Figure, markdown, show
from served import HOST, N, server

BEGIN, END = "<!-- live:start -->", "<!-- live:end -->"
_CALLERS = (1, 4)
_SETTLE_S = 15.0  # after a start: the replayed log moves into the file
_OPTIONS = ["--state", "state", "--no-access-log"]
Found = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """Sizes of a run.

    Attributes:
        users, items, rows: of the log that the server starts with.
        batches: of 100 events, per number of callers.
        effects: events whose effect is waited for.
        single: requests per round.
        rounds: of requests.
        large_users, large_items: of the state whose memory is measured, 50 events per user.
        kept: events that a restart finds.
    """

    users: int = 100_000
    items: int = 100_000
    rows: int = 500_000
    batches: int = 200
    effects: int = 200
    single: int = 1500
    rounds: int = 2
    large_users: int = 1_000_000
    large_items: int = 1_000_000
    kept: int = 10_000_000

    def scaled(self, share: float) -> Sizes:
        """A share of each.

        Args:
            share: 1 for all.
        """
        return Sizes(**{name: max(int(n * share), 1) for name, n in asdict(self).items()})


class World:
    """The bundle that is served, made once.

    Args:
        folder: empty.
        sizes: of the run.
    """

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder, self.sizes = folder, sizes
        self._bundle: Bundle | None = None

    @property
    def log(self) -> Path:
        """The log of interactions."""
        return self.folder / "log.parquet"

    @property
    def bundle(self) -> Bundle:
        """The bundle."""
        if self._bundle is None:
            write_log(self.log, self.sizes.users, self.sizes.items, self.sizes.rows)
            self._bundle = write_bundle(self.folder, self.log)
            load_graph(self.folder / "bundle", export=True)  # once per bundle; servers take it
        return self._bundle


def one_event(rng: np.random.Generator, sizes: Sizes) -> dict[str, Any]:
    """An interaction of now, as a body has it."""
    return {
        "type": "interaction",
        "user_id": int(rng.integers(sizes.users)),
        "item_id": int(rng.integers(sizes.items)),
    }


def measure_server(world: World) -> Found:
    """Events per second, time to an effect, and lists from state."""
    sizes, bundle = world.sizes, world.bundle
    raw = read_log("interactions", world.log, {"columns": {"time": "timestamp"}})
    begin = time.perf_counter()
    replay_log(raw, bundle, f"sqlite:///{world.folder / 's.db'}")
    replayed = time.perf_counter() - begin
    rng = np.random.default_rng(4)
    with server(world.folder, _OPTIONS) as (_, port, ready):
        time.sleep(_SETTLE_S)
        stored = [_batches(port, callers, sizes, rng) for callers in _CALLERS]
        effects = asyncio.run(_effects(port, sizes, rng))
        ranked = [_requests("rank", port, sizes, rng, turn) for turn in range(sizes.rounds)]
        found = [_requests("recommend", port, sizes, rng, turn) for turn in range(sizes.rounds)]
    answers = [*(each for each, _ in stored), *ranked, *found]
    return {
        "rows": sizes.rows, "replayed_events_s": sizes.rows / replayed, "ready_s": ready,
        "events_s": [rate for _, rate in stored], "effect_ms": _quantiles(effects),
        "rank_ms": [_quantiles(each.seconds) for each in ranked],
        "recommend_ms": [_quantiles(each.seconds) for each in found],
        "failed": sum(each.failed for each in answers),
    }  # fmt: skip


def _quantiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{q}": float(np.percentile(seconds, q)) * 1e3 for q in (50, 95, 99)}


def _batches(
    port: int, callers: int, sizes: Sizes, rng: np.random.Generator
) -> tuple[Answers, float]:
    """Send batches of 100 new events; the answers, and events per second."""
    bodies = [
        encoded({"events": [one_event(rng, sizes) for _ in range(100)]})
        for _ in range(sizes.batches)
    ]
    begin = time.perf_counter()
    client = Client(HOST, port, "/v1/events")
    answers = asyncio.run(closed_loop(client, bodies, len(bodies), callers, lambda _: None))
    return answers, 100 * len(bodies) / (time.perf_counter() - begin)


async def _effects(port: int, sizes: Sizes, rng: np.random.Generator) -> list[float]:
    """Seconds from sending an event to the first answer of a list that leaves its item out."""
    events, lists = Client(HOST, port, "/v1/events"), Client(HOST, port, "/v1/recommend")
    seconds = []
    for _ in range(sizes.effects):
        body = encoded({"user_id": int(rng.integers(sizes.users)), "exclude_seen": True})
        first = await _best(lists, body)
        event = {**one_event(rng, sizes), "user_id": json.loads(body)["user_id"], "item_id": first}
        begin = time.perf_counter()
        status, text = await events.post(encoded({"events": [event]}))
        if status != 200:
            raise RuntimeError(f"an event was answered {status}: {text!r}")
        while await _best(lists, body) == first:
            if time.perf_counter() - begin > 10:
                raise RuntimeError("an event had no effect within ten seconds")
        seconds.append(time.perf_counter() - begin)
    return seconds


async def _best(client: Client, body: bytes) -> int:
    status, text = await client.post(body)
    if status != 200:
        raise RuntimeError(f"a request was answered {status}: {text!r}")
    return int(json.loads(text)["items"][0])


def _requests(verb: str, port: int, sizes: Sizes, rng: np.random.Generator, turn: int) -> Answers:
    """Ask for lists, 100 per second at random moments."""
    bodies = [{"user_id": int(user)} for user in rng.integers(0, sizes.users, 500)]
    if verb == "rank":
        bodies = [
            {**body, "candidates": rng.choice(sizes.items, N, replace=False).tolist()}
            for body in bodies
        ]
    client, texts = Client(HOST, port, f"/v1/{verb}"), [encoded(body) for body in bodies]
    asyncio.run(open_loop(client, texts, 50, 50, lambda _: None))
    client = Client(HOST, port, f"/v1/{verb}")
    return asyncio.run(open_loop(client, texts, 100, sizes.single, lambda _: None, seed=turn))


def measure_restart(world: World) -> Found:
    """Ready again with a snapshot of many events and a tail that came after it."""
    sizes, folder = world.sizes, world.folder / "restart"
    bundle = world.bundle
    (folder).mkdir()
    (folder / "bundle").symlink_to(world.folder / "bundle")
    each = max(sizes.kept // (2 * sizes.users), 1)
    users = sizes.kept // each
    folded = write_snapshot(bundle, folder / "state", users, each, sizes.items)
    engine = open_engine(f"sqlite:///{folder / 's.db'}")
    log = EventLog(engine)
    log.append([LoggedEvent(0, 0, START, {})])
    with engine.begin() as connection:  # the numbers go on after those of the snapshot
        connection.execute(sa.update(EVENTS).values(seq=users * each))
        connection.exec_driver_sql(f"update sqlite_sequence set seq = {users * each}")
    tail = [LoggedEvent(k % users, k % sizes.items, START + k, {}) for k in range(10_000)]
    log.append(tail)
    engine.dispose()
    with server(folder, _OPTIONS) as (_, _, ready):
        pass
    return {"events": users * each, "tail": len(tail), "users": users, "ready_s": ready,
            "folded_events_s": users * each / folded}  # fmt: skip


def measure_memory(world: World) -> Found:
    """Memory of a large state, in a process of its own."""
    sizes = world.sizes
    shape = [str(size) for size in (sizes.large_users, 50, sizes.large_items)]
    command = [sys.executable, str(ROOT / "perf" / "live_world.py"), *shape]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    found: Found = json.loads(done.stdout)
    return {"users": sizes.large_users, "items": sizes.large_items, "each": 50, **found}


def measure_replay(world: World) -> Found:
    """A replay of MovieLens-1M into a store, and a start that reads all of it."""
    place = os.environ.get("GOALRANK_DATA")
    if place is None:
        return {"skipped": "set GOALRANK_DATA to a folder with ml-1m"}
    raw = read_log("movielens", Path(place) / "ml-1m")
    rule = LogRule(shape=raw.shape, strength=raw.strength_parts or (raw.strength,), depth=50)
    info = TableInfo(feedback_kinds=raw.kinds, target=raw.target, log=rule)
    rules = EventRules(tuple(raw.kinds), {"users": int, "items": int})
    log = EventLog(open_engine(f"sqlite:///{world.folder / 'ml.db'}"))
    begin = time.perf_counter()
    replay(raw, info, rules, log)
    seconds = time.perf_counter() - begin
    keeper = StateKeeper(info, None, log, world.folder / "ml-state")
    keeper.close()
    return {"events": rows_of(raw), "seconds": seconds, "start_s": keeper.seconds}


PARTS: dict[str, Callable[[World], Found]] = {
    "server": measure_server,
    "restart": measure_restart,
    "memory": measure_memory,
    "replay": measure_replay,
}


def figures(found: dict[str, Found]) -> list[Figure]:
    """Make the rows of the table.

    Args:
        found: name of a part → what it measured.
    """
    made: dict[str, Callable[[Found], list[Figure]]] = {
        "server": _server_figures, "restart": _restart_figures, "memory": _memory_figures,
        "replay": _replay_figures,
    }  # fmt: skip
    return [row for name, rows in made.items() if name in found and "skipped" not in found[name]
            for row in rows(found[name])]  # fmt: skip


def _server_figures(found: Found) -> list[Figure]:
    stored = [
        Figure(f"events in batches of 100, durable, {callers} caller(s)", rate, "/s",
               "≥ 5,000", rate >= 5000)
        for callers, rate in zip(_CALLERS, found["events_s"])
    ]  # fmt: skip
    effect = found["effect_ms"]["p99"]
    lists = []
    for verb, limit in (("rank", 10), ("recommend", 15)):
        name = f"{verb} from state, 100 requests/s at random moments"
        middle, late = ([each[q] for each in found[f"{verb}_ms"]] for q in ("p50", "p99"))
        reached = median(late) <= limit
        lists += [
            Figure(f"{name}, p50", median(middle), "ms", rounds=middle),
            Figure(f"{name}, p99", median(late), "ms", f"≤ {limit}", reached, late),
        ]
    return [
        *stored,
        Figure("event to its effect on a list, p99", effect, "ms", "≤ 1,000", effect <= 1000),
        *lists,
        Figure("answers that failed", found["failed"], "", "0", found["failed"] == 0),
        Figure(f"start without a snapshot, {found['rows']:,} events", found["ready_s"], "s"),
    ]


def _restart_figures(found: Found) -> list[Figure]:
    name = f"restart with {found['events']:,} events, of which {found['tail']:,} after the snapshot"
    judged = ("≤ 30", found["ready_s"] <= 30) if found["events"] >= Sizes.kept else ("", None)
    return [Figure(name, found["ready_s"], "s", judged[0], judged[1])]


def _memory_figures(found: Found) -> list[Figure]:
    name = (
        f"state of {found['users']:,} users × {found['each']} events and {found['items']:,} items"
    )
    size = found["resident_mb"] / 1000
    judged = ("≤ 2", size <= 2) if found["users"] >= Sizes.large_users else ("", None)
    return [
        Figure(f"{name}, with ids", size, "GB", judged[0], judged[1]),
        Figure("its arrays", found["arrays_mb"] / 1000, "GB"),
        Figure("events folded in", found["events_s"], "/s"),
    ]


def _replay_figures(found: Found) -> list[Figure]:
    seconds = found["seconds"]
    return [
        Figure("replay of MovieLens-1M into the store", seconds, "s", "≤ 60", seconds <= 60),
        Figure("start that reads all of it", found["start_s"], "s"),
    ]


def record(content: dict[str, Any]) -> None:
    """Write the results and the table in docs/performance.md.

    Args:
        content: of the results file.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False)
    replace_file(ROOT / "results" / "live.json", text + "\n")
    page = ROOT / "docs" / "performance.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    replace_file(page, f"{before}{BEGIN}\n{table(content)}\n{END}{after}")


def table(content: dict[str, Any]) -> str:
    """Write the table of a results file.

    Args:
        content: of the file.
    """
    return markdown(figures(content["parts"]), content["note"])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the sizes (1)")
    parser.add_argument("--only", choices=list(PARTS), help="one part")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument(
        "--record", action="store_true", help="write them to results/ and docs/performance.md"
    )
    settings = parser.parse_args()
    sizes = Sizes().scaled(settings.scale)
    console, load = Console(stderr=True), os.getloadavg()[0]
    about, file = machine(1), ROOT / "results" / "live.json"
    parts: dict[str, Found] = {}
    if settings.only and settings.record and file.exists():
        parts = json.loads(file.read_text(encoding="utf-8"))["parts"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        world = World(Path(folder), sizes)
        for name in [settings.only] if settings.only else PARTS:
            begin = time.perf_counter()
            parts[name] = {**PARTS[name](world), "load": round(load, 1)}
            console.print(f"{name}: {time.perf_counter() - begin:.0f} s")
    loads = ", ".join(f"{name} {found['load']}" for name, found in parts.items())
    note = (
        f"Measured on {about['cpu']}, {about['cores']} cores, load average before the run: {loads}; "
        f"a server of one worker with {sizes.users:,} users and {sizes.items:,} items; load generator "
        f"on the same cores."
    )
    content = {"machine": about, "sizes": asdict(sizes), "note": note, "parts": parts}
    show(Console(), figures(parts), note)
    if settings.json:
        replace_file(settings.json, json.dumps(content, indent=1) + "\n")
    if settings.record:
        record(content)


if __name__ == "__main__":
    main()
