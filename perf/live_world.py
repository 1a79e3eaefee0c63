"""A world for the benchmark of live state: its log, its bundle, its events, and large states."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from goalrank.bundles import Bundle
from goalrank.logs import RETRIEVAL, LearntRetrieval, import_dataset
from goalrank.rankers import RankerConfig, build_ranker
from goalrank.requests import ComputedFeatures, Encoder, LogRule, Requests, TableInfo
from goalrank.serving.state.live import LiveState
from goalrank.serving.state.snapshots import Snapshot
from served import L, N, resident

START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1e6)
MINUTE = 60_000_000
_READERS, _LONG = 1000, 50  # users whose histories are long enough for a request
_IMPORT = {"start_fraction": 0.0, "stride": 20, "refit_growth": 30.0, "candidates": N}
_FAMILIES = ("popularity", "rates", "ages", "user_item", "recent_popularity", "recent_rates",
             "user_activity", "session")  # fmt: skip


def items_of(count: int, items: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Items of rows: first each once, then some more often than others.

    Args:
        count: number of rows.
        items: number of items.
        rng: draws.
    """
    popular = (items * rng.random(count) ** 3).astype(np.int64)
    popular[: min(items, count)] = rng.permutation(items)[: min(items, count)]
    return popular


def write_log(path: Path, users: int, items: int, rows: int) -> None:
    """Write a log of interactions, a minute between two at most.

    Args:
        path: of the Parquet file.
        users, items: their numbers.
        rows: how many.
    """
    rng = np.random.default_rng(0)
    readers = np.repeat(np.arange(min(_READERS, users)), _LONG)[:rows]
    user = np.append(readers, rng.integers(0, users, rows - len(readers)))
    pl.DataFrame(
        {
            "user_id": rng.permutation(user),
            "item_id": items_of(rows, items, rng),
            "timestamp": START + np.sort(rng.integers(0, rows, rows)) * 1_000_000,
        }
    ).write_parquet(path)


def write_bundle(folder: Path, log: Path) -> Bundle:
    """Import the log, and write a bundle of random weights with what the import learnt.

    Args:
        folder: to write to: data and bundle.
        log: of `write_log`.
    """
    rows = pl.read_parquet(log).height
    options = {**_IMPORT, "columns": {"time": "timestamp"}, "first_fit": rows * 3 // 10}
    import_dataset("interactions", log, options, out=folder / "data")
    encoder = Encoder.fit(Requests.read(folder / "data" / "train.parquet"))
    torch.manual_seed(0)
    config = RankerConfig(name="goalrank", width=128, layers=2, heads=4, slots=L)
    learnt = LearntRetrieval.load(folder / "data" / RETRIEVAL)
    bundle = Bundle(
        build_ranker(encoder.spec, config), config, encoder, train={"dataset": "made up"},
        learnt=learnt,
    )  # fmt: skip
    bundle.save(folder / "bundle")
    return bundle


def event_frames(
    users: int, each: int, items: int, *, rows: int = 1_000_000
) -> Iterator[pl.DataFrame]:
    """Events of users, `each` per user, in order of time, in frames as a state takes them.

    Args:
        users, items: their numbers.
        each: events per user.
        rows: per frame.
    """
    rng, total = np.random.default_rng(1), users * each
    for begin in range(0, total, rows):
        at = np.arange(begin, min(begin + rows, total))
        yield pl.DataFrame(
            {
                "user_id": (at * 7919) % users,  # prime: each user once in `users` rows
                "item_id": items_of(len(at), items, rng),
                "time": START + at * 1000,
            }
        )


def plain_info() -> TableInfo:
    """What an import of such events says about itself, with the default features."""
    kinds = ("consumed",)
    return TableInfo(
        feedback_kinds=kinds, target="consumed",
        computed=ComputedFeatures(families=_FAMILIES, kinds=(), repeats=False),
        log=LogRule(shape="interactions", strength=kinds, depth=50, exclude_seen=True),
    )  # fmt: skip


def fill(live: LiveState, users: int, each: int, items: int) -> float:
    """Let a state take in events and move its clock past them; the seconds that it took."""
    begin = time.perf_counter()
    for frame in event_frames(users, each, items):
        live.add(frame)
        live.state.advance(int(frame["time"][-1]) + 1)
    return time.perf_counter() - begin


def write_snapshot(bundle: Bundle, folder: Path, users: int, each: int, items: int) -> float:
    """Write the snapshot of a server that has received events; the seconds that the events took."""
    live = LiveState(bundle.encoder.info, bundle.learnt)
    seconds = fill(live, users, each, items)
    Snapshot.of(live.state, users * each).write(folder)
    return seconds


def main() -> None:
    """Make a large state in this process and say what it takes, as JSON."""
    parser = argparse.ArgumentParser(description="Memory of a state.")
    for name in ("users", "each", "items"):
        parser.add_argument(name, type=int)
    asked = parser.parse_args()
    live = LiveState(plain_info(), None)
    before = resident(None)
    seconds = fill(live, asked.users, asked.each, asked.items)
    state = live.state
    parts = {
        "latest": state.latest.bytes, "seen": state.seen.bytes,
        "pairs": state.memory.pairs.bytes,
        "items": state.memory.items.bytes, "users": state.memory.users.bytes,
    }  # fmt: skip
    print(json.dumps({"resident_mb": resident(None) - before, "arrays_mb": state.bytes / 2**20,
                      "events_s": asked.users * asked.each / seconds,
                      "parts_mb": {name: size / 2**20 for name, size in parts.items()}}))  # fmt: skip


if __name__ == "__main__":
    main()
