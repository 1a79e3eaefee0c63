"""A planted world whose days arrive in a server's store, and a recipe that learns it in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from goalrank.api import RetrainSettings, load_retrain_settings
from goalrank.requests import Requests
from goalrank.serving import Event, Exposure, Store
from goalrank.serving.store.layouts import Layout
from goalrank.worlds import World, WorldConfig

DAY, WARM = 600, 1800
WORLD = World(
    WorldConfig(
        name="shop", users=150, items=60, clusters=6, tastes=2, candidates=8, slots=4, history=4,
        quality=1.5, bias=-2.0, retriever_noise=3.0, requests_per_day=DAY, fatigue=0.0,
        seed=5,
    )
)  # fmt: skip
# Solved in closed form: from night to night nearly the same. The luck of a network's training may
# lose more than the gate allows.
QUICK: dict[str, Any] = {
    "light": [],
    "ranker": {"name": "linear", "slots": 4},
    "objective": {"name": "supervised"},
}


def settings(**changes: Any) -> RetrainSettings:
    """Settings for days of 600 requests; keys may be dotted, with __ for the dot.

    Without the audit: in this world counting an item's clicks is better than any linear model.
    """
    given = {"recipe": QUICK, "settle_minutes": 0, "gate.bootstrap": 200, "gate.audit": False}
    return load_retrain_settings(
        None, given | {k.replace("__", "."): v for k, v in changes.items()}
    )


def warm(folder: Path, seed: int = 0) -> Path:
    """A data folder as an import leaves it: three days."""
    WORLD.sample(WARM, seed=1000 * seed + 1).write(folder / "train.parquet")
    return folder


def day(number: int, seed: int = 0) -> Requests:
    """What was shown on a day, from 0, and how it was answered."""
    return WORLD.sample(DAY, seed=1000 * seed + 100 + number, first=WARM + DAY * number)


def featured(table: Requests, *names: str, seed: int = 0) -> Requests:
    """The same requests with candidate features of these names; the first request lacks the first."""
    rng = np.random.default_rng(seed)
    sizes = table.frame["candidates"].list.len().to_list()
    vectors = [rng.normal(size=(n, len(names))).astype("float32").tolist() for n in sizes]
    vectors[0] = [[None, *vector[1:]] for vector in vectors[0]]
    dtype = pl.List(pl.Array(pl.Float32, len(names)))
    frame = table.frame.with_columns(pl.Series("candidate_features", vectors, dtype=dtype))
    info = table.info.replace(candidate_features=names)
    return Requests(frame, items=table.items, users=table.users, info=info)


def flipped(table: Requests) -> Requests:
    """The same day with every click turned into none, and the reverse."""
    other = table.frame["feedback"].struct.field("click").list.eval(1.0 - pl.element())
    frame = table.frame.with_columns(pl.DataFrame({"click": other}).to_struct("feedback"))
    return Requests(frame, items=table.items, users=table.users, info=table.info)


def spammed(table: Requests, item: int, seed: int = 0) -> Requests:
    """The same day where clicks on one item were bought, wherever it was shown, and it was often."""
    rng = np.random.default_rng(seed)
    rows = table.frame.to_dicts()
    for row in rows:
        if rng.random() < 0.7:
            at = row["shown"][0]
            if item not in row["candidates"]:
                row["candidates"][at] = item
            place = row["candidates"].index(item)
            if place not in row["shown"]:
                row["shown"][0] = place
            row["feedback"]["click"][row["shown"].index(place)] = 1.0
    frame = pl.DataFrame(rows, schema=table.frame.schema)
    return Requests(frame, items=table.items, users=table.users, info=table.info)


def serve(url: str, table: Requests, policy: str = "dnn@0123456789ab") -> None:
    """Leave in a store what a server would have: exposures, and the feedback above 0."""
    rows = table.frame.to_dicts()
    exposures = [
        Exposure(
            request_id=row["request_id"], user_id=row["user_id"], time=row["time"],
            candidates=row["candidates"], shown=row["shown"], history=row["history"],
            history_feedback=row["history_feedback"], history_time=row["history_time"],
            candidate_score=row.get("candidate_score"), propensity=row["propensity"], policy=policy,
            candidate_features=row.get("candidate_features") or [],
            layout=Layout.of(table.info).name,
        )
        for row in rows
    ]  # fmt: skip
    events = [
        Event(row["request_id"], row["candidates"][at], kind, value)
        for row in rows
        for kind, values in row["feedback"].items()
        for at, value in zip(row["shown"], values)
        if value
    ]
    with Store(url) as store:
        store.describe(table.info)
        store.record(exposures, timeout=None)
        store.feedback(events)
