"""Two weeks of a shop whose users change: a server that is retrained every night beside one that never is.

Both are `goalrank serve`; users ask them over HTTP and answer with feedback and events. The shop is
a simulator (`goalrank.worlds`), so what a list is worth is known. On one day the answers come the
wrong way round, and on another the champion is rolled back while users ask.

python examples/two_weeks.py --out two-weeks               # one seed
python examples/two_weeks.py --out two-weeks --seed 1      # another one; table and figure show all
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from goalrank.nn import mixed_seed
from goalrank.reporting import line_chart, save_figure
from goalrank.storage import write_text
from goalrank.worlds import DrawnRequests, PlantedWorld, World, WorldConfig, item_table

WORLD = WorldConfig(
    name="shop", users=300, items=400, clusters=16, bias=0.2, candidates=20, slots=6, fatigue=0.2,
    noise=0.5, drift=0.05, season=0.7, season_days=14.0,
)  # fmt: skip
RETRAIN = """
settle_minutes = 0              # users answer at once here
exclude = [{exclude}]

[recipe]
light = []
ranker = {{ name = "linear", slots = 6 }}
objective = {{ name = "supervised" }}
seed = {seed}

[window]
requests = {window}

[gate]
bootstrap = 200
"""
KEPT, RETRAINED = "never retrained", "retrained every night"


@dataclass(frozen=True)
class Plan:
    """What happens when.

    Attributes:
        seed: of users' requests and answers, and of training.
        days: that are served.
        requests: per day.
        warm: days of the log before.
        poisoned: day (from 1) whose answers come the wrong way round.
        rolled_back: day (from 1) in which the champion is rolled back.
    """

    seed: int
    days: int
    requests: int
    warm: int
    poisoned: int
    rolled_back: int

    @property
    def world(self) -> World:
        """The shop; its users and items are those of the seed."""
        given = WORLD.model_dump() | {"seed": self.seed, "requests_per_day": self.requests}
        return World(WorldConfig(**given))

    def first(self, day: int) -> int:
        """Number of a day's first request."""
        return (self.warm + day - 1) * self.requests


def goalrank(*words: object, codes: Sequence[int] = (0,)) -> str:
    """What a command printed."""
    done = subprocess.run(
        [sys.executable, "-m", "goalrank", *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in codes:
        raise SystemExit(f"goalrank {' '.join(map(str, words))}: {done.stdout}{done.stderr}")
    return done.stdout


@dataclass
class Server:
    """A running `goalrank serve`."""

    address: str
    degraded: int = 0
    policies: list[str] = field(default_factory=list)

    def call(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON answer to a GET, or to a POST where there is a body."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.load(answer))

    @property
    def policy(self) -> str:
        """Name of the model that serves now."""
        return str(self.call("/v1/models")["models"][0]["policy"])

    def wait(self) -> None:
        """Until it can serve."""
        for _ in range(600):
            try:
                self.call("/health/ready")
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise SystemExit(f"the server at {self.address} is not ready")

    def follow(self, before: str) -> None:
        """Wait until it serves another model than before."""
        for _ in range(600):
            if self.policy != before:
                return
            time.sleep(0.1)
        raise SystemExit(f"the server at {self.address} did not follow the promotion")


@contextmanager
def serving(folder: Path, name: str, *what: object) -> Iterator[Server]:
    """A server with a store and a state of its own, and its log in the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        *what, "--port", port, "--store", f"sqlite:///{folder / name}.db", "--state",
        folder / f"{name}-state", "--deadline", 20, "--no-access-log",
    ]  # fmt: skip
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "goalrank", "serve", *map(str, words)], stdout=log, stderr=log
        )
    try:
        server = Server(f"http://127.0.0.1:{port}")
        server.wait()
        yield server
    finally:
        process.terminate()
        process.wait(30)


@dataclass
class Visitors:
    """The world's behaviour policy: a server is asked for the lists.

    Attributes:
        server: that is asked.
        name: of the policy.
        worth: what each list was worth, in expectation.
    """

    server: Server
    name: str = "server"
    worth: list[float] = field(default_factory=list)

    def __call__(
        self, world: PlantedWorld, asked: DrawnRequests, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Lists [B, L] and their probabilities [B]."""
        items = asked.items.tolist()
        numbers = range(asked.first, asked.first + len(items))
        bodies = [
            {
                "request_id": f"shop-{number}", "user_id": user, "time": moment(time_us),
                "candidates": candidates, "candidate_score": score,
            }
            for number, user, time_us, candidates, score in zip(
                numbers, asked.users.tolist(), asked.time_us.tolist(), items,
                asked.scores.tolist(), strict=True,
            )
        ]  # fmt: skip
        answers = self.server.call("/v1/rank:batch", {"requests": bodies})["lists"]
        self.server.degraded += sum(answer["degraded"] for answer in answers)
        self.server.policies += [answer["policy"] for answer in answers]
        lists = torch.tensor(
            [[row.index(i) for i in answer["items"]] for row, answer in zip(items, answers)]
        )
        response = world.response_model(asked.users, asked.items, asked.days)
        self.worth += response.reward(lists[:, None])[:, 0].tolist()
        return lists, torch.tensor([answer["propensity"] or 0.0 for answer in answers])


def moment(time_us: int) -> str:
    """A time as text."""
    return (datetime(1970, 1, 1) + timedelta(microseconds=time_us)).isoformat() + "Z"


def answer(server: Server, table: pl.DataFrame, wrong: bool) -> None:
    """Send what users did, as feedback on lists and as events; `wrong` turns each answer round."""
    feedback, events = [], []
    for row in table.iter_rows(named=True):
        items = [row["candidates"][at] for at in row["shown"]]
        values = {
            kind: [1 - value if wrong else value for value in each]
            for kind, each in row["feedback"].items()
        }
        feedback += [
            {"request_id": row["request_id"], "item": item, "kind": kind, "value": value}
            for kind, each in values.items()
            for item, value in zip(items, each)
            if value
        ]
        events.append(
            {
                "type": "exposure", "event_id": row["request_id"], "user_id": row["user_id"],
                "items": items, "time": row["time"].isoformat(), "values": values,
            }
        )  # fmt: skip
    if feedback:
        server.call("/v1/feedback", {"events": feedback})
    server.call("/v1/events", {"events": events})


def serve(plan: Plan, day: int, server: Server, numbers: range) -> list[float]:
    """Let users ask and answer; what their lists were worth.

    The same users ask for the same candidates at every server, and the world draws their answers
    from the same numbers.
    """
    first = plan.first(day) + numbers.start
    visitors = Visitors(server)
    table = plan.world.sample(
        len(numbers), seed=mixed_seed(plan.seed, "day", first), policy=visitors, first=first
    )
    answer(server, table.frame, wrong=day == plan.poisoned)
    return visitors.worth


def warm_log(plan: Plan, folder: Path) -> Path:
    """The log before: candidates with the place where they were shown, and the answers."""
    table = plan.world.sample(plan.warm * plan.requests, seed=mixed_seed(plan.seed, "warm"))
    at = pl.int_ranges(0, pl.col("candidates").list.len()).alias("at")
    rows = table.frame.select("request_id", "user_id", "time", "candidates", "candidate_score", at)
    shown = table.frame.select(
        "request_id", at=pl.col("shown").cast(pl.List(pl.Int64)),
        position=pl.int_ranges(0, pl.col("shown").list.len()), click=pl.col("feedback").struct[0],
    ).explode("at", "position", "click")  # fmt: skip
    log = rows.explode("candidates", "candidate_score", "at").join(
        shown, on=["request_id", "at"], how="left", maintain_order="left"
    )
    file = folder / "exposures.parquet"
    log.rename({"candidates": "item_id"}).drop("at").write_parquet(file)
    item_table(plan.world).write_parquet(folder / "items.parquet")
    return file


def prepare(plan: Plan, folder: Path) -> None:
    """Import the log before, train the first version on it, and give both servers its events."""
    log = warm_log(plan, folder)
    reading = ("exposures", log, "--kinds", "click")
    goalrank("data", "import", *reading, "--out", folder / "data")
    settings(plan, folder, "")
    first = retrain(folder, store="none")
    if first["outcome"] != "promoted":
        why = [each["said"] for each in first["reasons"] if each["passed"] is False]
        sys.exit(f"seed {plan.seed}: the gate refuses the first model: {'; '.join(why)}")
    shutil.copytree(folder / "models" / "champion", folder / "first")
    for name in (KEPT, RETRAINED):
        store = f"sqlite:///{folder / name}.db"
        goalrank("events", "replay", *reading, "--bundle", folder / "first", "--store", store)


def settings(plan: Plan, folder: Path, exclude: str) -> None:
    """Write the settings of the retraining."""
    text = RETRAIN.format(exclude=exclude, seed=plan.seed, window=plan.requests // 2)
    (folder / "retrain.toml").write_text(text)


def retrain(folder: Path, store: str | None = None) -> dict[str, Any]:
    """Run the night's command; code 20 is a refusal."""
    store = store or f"sqlite:///{folder / RETRAINED}.db"
    said = goalrank(
        "retrain", "--data", folder / "data", "--models", folder / "models", "--store", store,
        "--settings", folder / "retrain.toml", "--accelerator", "cpu", "--json", codes=(0, 20),
    )  # fmt: skip
    return dict(json.loads(said))


def night(plan: Plan, day: int, folder: Path, server: Server) -> dict[str, Any]:
    """Retrain; after a refusal of a poisoned day its time is left out from then on."""
    before = server.policy
    done = retrain(folder)
    if done["outcome"] == "promoted":
        server.follow(before)
    if day == plan.poisoned:
        start = datetime(2024, 1, 1) + timedelta(days=plan.warm + day - 1)
        settings(plan, folder, f"[{start.isoformat()}, {(start + timedelta(days=1)).isoformat()}]")
    refused = [r["said"] for r in done["reasons"] if r["passed"] is False]
    return {"outcome": done["outcome"], "version": done["version"], "refused": refused}


def serve_day(plan: Plan, day: int, servers: dict[str, Server]) -> dict[str, float]:
    """Serve a day's requests, some at a time; the mean worth of a list at each server."""
    worth: dict[str, list[float]] = {name: [] for name in servers}
    step = max(plan.requests // 20, 1)
    for start in range(0, plan.requests, step):
        numbers = range(start, min(start + step, plan.requests))
        for name, server in servers.items():
            worth[name] += serve(plan, day, server, numbers)
    return {name: sum(each) / len(each) for name, each in worth.items()}


def serve_rollback(
    plan: Plan, day: int, servers: dict[str, Server], folder: Path
) -> tuple[dict[str, float], dict[str, Any]]:
    """Serve a day in which the champion is rolled back; users do not stop to ask meanwhile."""
    worth: dict[str, list[float]] = {name: [] for name in servers}
    server, quarter = servers[RETRAINED], plan.requests // 4
    bad, begun = server.policy, len(server.policies)
    words = ("models", "rollback", "--models", folder / "models", "--reason", "a drill")
    step = max(plan.requests // 200, 1)
    with ThreadPoolExecutor(1) as pool:
        rollback: Future[str] | None = None
        for start in range(0, plan.requests, step):
            if start >= quarter and rollback is None:
                rollback = pool.submit(goalrank, *words)
            if start >= 3 * quarter and rollback is not None:
                rollback.result()
                server.follow(bad)
            for name, each in servers.items():
                numbers = range(start, min(start + step, plan.requests))
                worth[name] += serve(plan, day, each, numbers)
    before = server.policies[begun:].count(bad)
    told = {"answers before": before, "answers after": plan.requests - before}
    return {name: sum(each) / len(each) for name, each in worth.items()}, told


def run(plan: Plan, folder: Path) -> dict[str, Any]:
    """All days of a seed."""
    prepare(plan, folder)
    days: list[dict[str, Any]] = []
    with ExitStack() as stack:
        servers = {
            KEPT: stack.enter_context(serving(folder, KEPT, "--bundle", folder / "first")),
            RETRAINED: stack.enter_context(
                serving(folder, RETRAINED, "--models", folder / "models")
            ),
        }
        for day in range(1, plan.days + 1):
            entry: dict[str, Any] = {"day": day}
            if day == plan.rolled_back:
                entry["reward"], entry["rollback"] = serve_rollback(plan, day, servers, folder)
            else:
                entry["reward"] = serve_day(plan, day, servers)
            entry["night"] = night(plan, day, folder, servers[RETRAINED])
            days.append(entry)
            print(line_of(entry), flush=True)
        degraded = {name: server.degraded for name, server in servers.items()}
    history = json.loads((folder / "models" / "history.json").read_text())
    return {
        "seed": plan.seed, "requests": plan.requests, "poisoned": plan.poisoned,
        "rolled_back": plan.rolled_back, "degraded": degraded, "days": days,
        "moves": [move["kind"] for move in history["moves"]],
    }  # fmt: skip


def report(out: Path) -> str:
    """Table and figure of all seeds in a folder."""
    seeds = [json.loads(path.read_text()) for path in sorted(out.glob("seed-*.json"))]
    frame = pl.DataFrame(
        [
            {"seed": seed["seed"], "day": day["day"], **day["reward"]}
            for seed in seeds
            for day in seed["days"]
        ]
    )
    mean = frame.group_by("day", maintain_order=True).agg(pl.col(KEPT, RETRAINED).mean())
    lines = {name: (mean["day"].to_numpy(), mean[name].to_numpy()) for name in (RETRAINED, KEPT)}
    figure = line_chart(
        lines, xlabel="day", ylabel="expected reward per list", markers=True, size=(7.6, 3.6)
    )
    for day, text in ((seeds[0]["poisoned"], "poisoned"), (seeds[0]["rolled_back"], "rolled back")):
        figure.axes[0].axvline(day, color="#999999", linewidth=1, linestyle=":")
        figure.axes[0].annotate(text, (day, 1.0), xycoords=("data", "axes fraction"), fontsize=9)
    save_figure(figure, out / "two-weeks.svg")
    return _table(seeds, frame)


def _table(seeds: list[dict[str, Any]], frame: pl.DataFrame) -> str:
    """One row per day: means over seeds, and what the nights did at each seed."""
    rows = [
        f"| day | {RETRAINED} | {KEPT} | gain | smallest, largest seed | night |",
        "|--:|--:|--:|--:|--:|---|",
    ]
    days = frame.with_columns(gain=100 * (pl.col(RETRAINED) / pl.col(KEPT) - 1))
    for part in days.partition_by("day", maintain_order=True):
        day = int(part["day"][0])
        gain, kept, retrained = (part[n].to_numpy() for n in ("gain", KEPT, RETRAINED))
        nights = [seed["days"][day - 1]["night"]["outcome"] for seed in seeds]
        night = nights[0] if len(set(nights)) == 1 else ", ".join(nights)
        rows.append(
            f"| {day} | {retrained.mean():.3f} | {kept.mean():.3f} | "
            f"{gain.mean():+.1f} % | {gain.min():+.1f}, {gain.max():+.1f} | {night} |"
        )
    return "\n".join(rows) + "\n"


def line_of(entry: dict[str, Any]) -> str:
    """One day in a line: rewards per list, the rollback, and what the night decided, with reasons.

    Args:
        entry: of the record.
    """
    rewards = ", ".join(f"{name} {value:.3f}" for name, value in entry["reward"].items())
    moved = entry.get("rollback", {})
    rolled = "".join(f"; {name} the rollback: {count}" for name, count in moved.items())
    night = entry["night"]
    reasons = "".join(f"\n    {reason}" for reason in night["refused"])
    return (
        f"day {entry['day']}: reward per list {rewards}{rolled}; night: version "
        f"{night['version']} {night['outcome']}{reasons}"
    )


def main() -> None:
    """Run a seed, and draw all seeds that the folder has."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument(
        "--seed", type=int, default=0, help="of users, items, requests and training"
    )
    parser.add_argument("--days", type=int, default=14, help="that are served")
    parser.add_argument("--requests", type=int, default=600, help="per day")
    parser.add_argument("--warm", type=int, default=2, help="days of the log before")
    parser.add_argument("--poisoned", type=int, default=6, help="day of wrong answers, from 1")
    parser.add_argument("--rolled-back", type=int, default=10, help="day of the rollback, from 1")
    parser.add_argument("--keep", type=Path, help="folder for data, stores and models, kept")
    given = vars(parser.parse_args())
    out, keep = given.pop("out"), given.pop("keep")
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if keep is None else keep
        folder.mkdir(parents=True, exist_ok=True)
        done = run(Plan(**given), folder.resolve())
    write_text(out / f"seed-{done['seed']}.json", json.dumps(done, indent=1) + "\n")
    table = report(out)
    write_text(out / "table.md", table)
    print(table)


if __name__ == "__main__":
    main()
