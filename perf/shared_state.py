"""Live state in each worker's memory against a Redis server that all share.

    python perf/shared_state.py

Needs `redis-server` (Debian: redis-server) and the package redis with hiredis, of which goalrank
needs neither. Both sides hold the facts of the same rows: totals and decayed totals per item, the
latest rows per user. Redis gets every advantage: one key per item and user with all its facts, one
MGET per request, one MGET and one MSET per batch of events with no other writer to wait for, no
client library of goalrank in between, and the features' formulas are not counted on its side. A
server in memory reads the facts and computes the features. Wall time on the same cores; "its part"
is what reading, or reading and writing, takes.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from goalrank.features import COUNTED, FeatureInputs, FeaturePlan, RowPool
from goalrank.features.online.memory import FeatureMemory
from live_world import MINUTE, START

USERS, ITEMS, PER_USER, N = 100_000, 100_000, 10, 50
FAMILIES = ("popularity", "rates", "ages", "user_item", "recent_popularity", "recent_rates",
            "user_activity", "session")  # fmt: skip
_REQUESTS, _BATCHES, _BATCH = 2000, 200, 100


def filled(rng: np.random.Generator) -> FeatureMemory:
    """A memory of rows of random users and items."""
    plan = FeaturePlan(FAMILIES, FeatureInputs(("click",)))
    pool = RowPool(1, {COUNTED: plan.needs.latest}, lambda user, item, _: mixed(user, item))
    memory = FeatureMemory(plan, pool)
    for turn in range(PER_USER):
        fold_in(memory, *rows(rng, np.arange(USERS), START + turn * MINUTE))
    return memory


def mixed(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Keys of rows of one time."""
    keys: np.ndarray = (user * 1_000_003 ^ item).astype(np.uint64)
    return keys


def fold_in(memory: FeatureMemory, *columns: Any) -> None:
    """Let a memory take in rows."""
    memory.add(*columns)
    user, item, time, values = columns
    memory.latest.add(user, item, time, np.full(len(user), COUNTED, np.uint8), values)


def rows(rng: np.random.Generator, users: np.ndarray, moment: int) -> tuple[Any, ...]:
    """A row per user, of a random item."""
    count = len(users)
    items = rng.integers(ITEMS, size=count)
    return users, items, np.full(count, moment), [rng.random(count).astype(np.float32).round()]


def item_facts(memory: FeatureMemory) -> np.ndarray:
    """All that the memory knows of each item: [items, bytes]."""
    totals = memory.items
    columns = [totals.count, *totals.sums, totals.first, totals.last]
    for each in memory.decayed.values():
        columns += [each.epoch, *each.older, *each.current]
    kept = [np.ascontiguousarray(column[:ITEMS]).view(np.int64) for column in columns]
    return np.ascontiguousarray(np.stack(kept, 1))


def user_facts(memory: FeatureMemory, user: int) -> bytes:
    """The latest rows of a user."""
    pool = memory.latest
    real, row = pool.latest(np.array([user]), memory.plan.needs.latest, COUNTED)
    arrays: tuple[np.ndarray, ...] = (pool.item, pool.time, pool.marks, *pool.values)
    return b"".join(array[row[real]].tobytes() for array in arrays)


@contextmanager
def redis_server() -> Iterator[Any]:
    """A server of its own that writes nothing to the disk, by a Unix socket.

    Yields:
        The client.
    """
    redis = importlib.import_module("redis")
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "redis.sock"
        command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", ""]
        process = subprocess.Popen([*command, "--appendonly", "no"], stdout=subprocess.DEVNULL)
        try:
            client = redis.Redis(unix_socket_path=str(socket))
            while not socket.exists():
                time.sleep(0.05)
            yield client
        finally:
            process.terminate()
            process.wait()


def milliseconds(call: Callable[[], object], runs: int) -> dict[str, float]:
    """Quantiles of a call's time."""
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    p50, p99 = np.quantile(taken, [0.5, 0.99]) * 1e3
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}


def main() -> None:
    """Measure both and print JSON."""
    rng = np.random.default_rng(0)
    memory = filled(rng)
    moment = np.array([START + 100 * MINUTE])

    def in_memory() -> None:
        user, items = rng.integers(USERS, size=1), rng.integers(ITEMS, size=(1, N))
        memory.values(user.astype(np.int32), items.astype(np.int32), moment)

    def fold() -> None:
        fold_in(memory, *rows(rng, rng.integers(USERS, size=_BATCH), int(moment[0])))

    found: dict[str, Any] = {"memory": {"request": milliseconds(in_memory, _REQUESTS)}}
    found["memory"]["batch of 100 events"] = milliseconds(fold, _BATCHES)
    found["memory"]["MB per worker"] = round((memory.bytes + memory.latest.bytes) / 2**20)
    facts = item_facts(memory)
    with redis_server() as client:
        for begin in range(0, ITEMS, 1000):
            part = range(begin, begin + 1000)
            client.mset({f"i{item}": facts[item].tobytes() for item in part})
            client.mset({f"u{user}": user_facts(memory, user) for user in part})

        def read() -> None:
            user, items = int(rng.integers(USERS)), rng.integers(ITEMS, size=N).tolist()
            values = client.mget([f"u{user}", *(f"i{item}" for item in items)])
            np.frombuffer(b"".join(values[1:]), np.int64).reshape(N, -1)

        def write() -> None:
            keys = [f"i{item}" for item in rng.integers(ITEMS, size=_BATCH).tolist()]
            keys += [f"u{user}" for user in rng.integers(USERS, size=_BATCH).tolist()]
            client.mset(dict(zip(keys, client.mget(keys))))

        found["redis"] = {
            "request, its part": milliseconds(read, _REQUESTS),
            "batch of 100 events, its part": milliseconds(write, _BATCHES),
            "MB, shared": round(client.info("memory")["used_memory"] / 2**20),
        }
    json.dump(found, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
