"""A small requests table with every type of feature, for tests that need files and encoders."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from goalrank.requests import Requests, TableInfo

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


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
    """Requests of 1…`most` candidates; even items are liked more often, so there is a thing to learn.

    Args:
        strings: ids are strings instead of integers.
    """
    rng = np.random.default_rng(seed)
    name = (lambda prefix, i: f"{prefix}{i}") if strings else (lambda prefix, i: int(i))
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
