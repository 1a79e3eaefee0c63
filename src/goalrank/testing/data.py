"""Small random data for tests: encoded requests without files, and tables with every type of feature."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import torch

from goalrank.requests import EncodedRequests, EntityTable, InputSpec, Requests, TableInfo

CATEGORIES = 7
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def make_entities(rows: int, buckets: int = 2, numeric: int = 0, seed: int = 0) -> EntityTable:
    """Make features of entities: row 0 padding, then known ids, then shared rows; no categories.

    Args:
        rows: rows of the table, row 0 and the shared ones included.
        buckets: rows that unknown ids share.
        numeric: number of numeric features.
        seed: of every random draw.
    """
    rng = np.random.default_rng(seed)
    ids = torch.arange(rows)
    known = rows - buckets
    bucket = ids.clone()
    bucket[1:known] = known + ids[1:known] % buckets
    return EntityTable(
        ids,
        bucket,
        torch.from_numpy(rng.normal(size=(rows, numeric)).astype(np.float32)),
        torch.zeros((rows, 0), dtype=torch.int64),
        torch.zeros((rows, 0)),
    )


def make_requests(
    requests: int = 40,
    n: int = 8,
    *,
    shown: int = 4,
    history: int = 3,
    items: int = 30,
    users: int = 10,
    features: int = 2,
    kinds: tuple[str, ...] = ("click",),
    protocol: str = "retrieved",
    seed: int = 0,
) -> EncodedRequests:
    """Make random requests: candidates (1…n) and histories (0…history) of varied length, 0/1 feedback.

    Set single fields with `dataclasses.replace`.

    Args:
        requests: how many.
        n: candidates of a request, at most.
        shown: shown items of a request, at most.
        history: history events of a request, at most.
        items: size of the catalogue.
        users: number of users.
        features: number of features of a candidate.
        kinds: feedback kinds.
        protocol: "exposed" or "retrieved".
        seed: of every random draw.
    """
    rng = np.random.default_rng(seed)
    item_table, user_table = make_entities(items + 3, seed=seed), make_entities(users + 3)
    sizes = rng.integers(max(1, n // 2), n + 1, requests)
    past = rng.integers(0, history + 1, requests)
    seen = np.minimum(sizes, rng.integers(1, shown + 1, requests))
    time = np.sort(rng.integers(10**9, 10**12, requests))
    candidates = [rng.choice(np.arange(1, items + 1), k, replace=k > items) for k in sizes]
    values: dict[str, Any] = {
        "items": item_table,
        "users": user_table,
        "kinds": kinds,
        "target": 0,
        "protocol": protocol,
        "history_limit": max(history, 1),
        "key": rng.integers(-(2**62), 2**62, requests),
        "time": time,
        "user": rng.integers(1, users + 1, requests).astype(np.int32),
        "propensity": np.full(requests, np.nan, np.float32),
        "history_start": np.concatenate([[0], np.cumsum(past)]),
        "history": rng.integers(1, items + 1, past.sum()).astype(np.int32),
        "history_feedback": np.ones(past.sum(), np.float32),
        "history_time": np.repeat(time, past) - 1,
        "candidate_start": np.concatenate([[0], np.cumsum(sizes)]),
        "candidates": np.concatenate(candidates).astype(np.int32),
        "candidate_score": rng.normal(size=sizes.sum()).astype(np.float32),
        "candidate_features": rng.normal(size=(sizes.sum(), features)).astype(np.float32),
        "shown_start": np.concatenate([[0], np.cumsum(seen)]),
        "shown": np.concatenate([rng.permutation(s)[:k] for s, k in zip(sizes, seen)]).astype(
            np.int32
        ),
        "feedback": rng.integers(0, 2, (seen.sum(), len(kinds))).astype(np.float32),
    }
    return EncodedRequests(**values)


def make_rich_requests(requests: int = 6, n: int = 6, **options: Any) -> EncodedRequests:
    """Make requests as `make_requests` does, whose items and users have numbers and categories as well."""
    columns = make_requests(requests, n, **options)
    rng = np.random.default_rng(5)
    return replace(
        columns, items=_featured(columns.items, rng), users=_featured(columns.users, rng)
    )


def _featured(table: EntityTable, rng: np.random.Generator) -> EntityTable:
    rows = len(table)
    category = torch.from_numpy(rng.integers(0, CATEGORIES, (rows, 2)))
    weight = (category > 0).float() / 2
    numeric = torch.from_numpy(rng.normal(size=(rows, 3)).astype(np.float32))
    return replace(table, numeric=numeric, category=category, category_weight=weight)


def spec_of(columns: EncodedRequests) -> InputSpec:
    """Sizes for models that read these requests."""
    items, users = columns.items, columns.users
    return InputSpec(
        item_ids=int(items.id_row.max()) + 1,
        item_numeric=items.numeric.shape[1],
        item_category=CATEGORIES,
        item_category_width=items.category.shape[1],
        user_ids=int(users.id_row.max()) + 1,
        user_numeric=users.numeric.shape[1],
        user_category=CATEGORIES,
        user_category_width=users.category.shape[1],
        candidate_features=columns.candidate_features.shape[1],
        model_scores=columns.model_scores,
        has_score=True,
        kinds=columns.kinds,
    )


def make_table(
    rows: int = 60,
    *,
    seed: int = 0,
    strings: bool = False,
    protocol: str = "exposed",
    items: int = 40,
    users: int = 12,
    most: int = 9,
    warning: str | None = None,
) -> Requests:
    """Make a table of requests of 1…`most` candidates; even items are liked more often, so there is a thing to learn.

    Args:
        rows: number of requests.
        seed: of every random draw.
        strings: ids are strings instead of integers.
        protocol: "exposed" or "retrieved".
        items: size of the catalogue.
        users: number of users.
        most: candidates of a request, at most.
        warning: note in the description of the table.
    """
    rng = np.random.default_rng(seed)

    def name(prefix: str, i: Any) -> str | int:
        return f"{prefix}{i}" if strings else int(i)

    frame: dict[str, list[Any]] = {key: [] for key in _COLUMNS}
    for r in range(rows):
        n, h = int(rng.integers(1 if r % 7 == 0 else 6, most + 1)), int(rng.integers(0, 6))
        chosen = rng.choice(items, n, replace=False)
        time = NOON + timedelta(hours=r + 1000 * seed)
        good = rng.random(n) < np.where(chosen % 2 == 0, 0.8, 0.2)
        shown = rng.permutation(n)
        frame["request_id"].append(f"s{seed}r{r}")
        frame["user_id"].append(name("u", rng.integers(users)))
        frame["time"].append(time)
        frame["history"].append([name("i", i) for i in rng.integers(0, items, h)])
        frame["history_feedback"].append([1.0] * h)
        frame["history_time"].append([time - timedelta(hours=h - k) for k in range(h)])
        frame["candidates"].append([name("i", i) for i in chosen])
        frame["candidate_score"].append(rng.normal(size=n).tolist())
        frame["candidate_features"].append(rng.normal(size=(n, 2)).tolist())
        frame["shown"].append(shown.tolist())
        frame["feedback"].append(
            {
                "click": good[shown].astype(float).tolist(),
                "long": (good[shown] & (rng.random(n) < 0.5)).astype(float).tolist(),
            }
        )
    info = TableInfo(
        dataset="small",
        protocol=protocol,  # type: ignore[arg-type]
        feedback_kinds=("click", "long"),
        target="click",
        candidate_features=("p", "q"),
        warning=warning,
    )
    schema = {"candidate_features": pl.List(pl.Array(pl.Float32, 2))}
    return Requests(
        pl.DataFrame(frame, schema_overrides=schema),
        items=_items(rng, items, name),
        users=pl.DataFrame({"user_id": [name("u", i) for i in range(users)], "age": range(users)}),
        info=info,
    )


def _items(rng: np.random.Generator, items: int, name: Any) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item_id": [name("i", i) for i in range(items)],
            "title": [f"Item {i}" for i in range(items)],
            "price": np.exp(rng.normal(size=items) * 3),
            "new": [i % 3 == 0 for i in range(items)],
            "genre": [None if i % 5 == 0 else f"g{i % 4}" for i in range(items)],
            "tags": [[f"t{i % 3}", f"t{i % 2}"] for i in range(items)],
            "vector": pl.Series(rng.normal(size=(items, 3)), dtype=pl.Array(pl.Float32, 3)),
        }
    )


_COLUMNS = (
    "request_id", "user_id", "time", "history", "history_feedback", "history_time", "candidates",
    "candidate_score", "candidate_features", "shown", "feedback",
)  # fmt: skip
