"""A suite small enough for a test, on a table written by the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goalrank.studies.common import Suite, build_suite
from tests.tables import make_table

LOOP = {"steps": 10, "batch_size": 16, "warmup": 1, "validate_every": 10}
RECIPE: dict[str, Any] = {
    "light": ["dnn"],
    "ranker": {"width": 8, "layers": 1, "heads": 2},
    "light_loop": LOOP,
    "training": LOOP,
    "reward": {"width": 8, "heads": 2, "loop": LOOP},
}
ROWS: list[Any] = [
    "dnn",
    "goalrank",
    {"name": "best_of", "label": "best_of_5", "options": {"base": "dnn", "lists": 5}},
    "mmr",
    "baselines",
]
IMPOSSIBLE = {"name": "mmr", "label": "impossible", "objective": "group_relative"}
DIVERGES = {"name": "dnn", "label": "diverges", "set": {"training": {"lr": 1e30, "clip": 0}}}


def write_data(folder: Path) -> Path:
    """Three parts, as an import leaves them."""
    for seed, (part, rows) in enumerate((("train", 80), ("validation", 30), ("test", 60))):
        made = make_table(rows, seed=seed, users=45, warning="planted data")
        made.write(folder / f"{part}.parquet")
    return folder


def make_suite(data: Path, rows: list[Any] | None = None, **changes: Any) -> Suite:
    """`ROWS` on the data, two seeds."""
    settings: dict[str, Any] = {
        "name": "mini",
        "slots": 3,
        "seeds": [0, 1],
        "metrics": ["ndcg", "recall"],
        "rankers": ROWS if rows is None else rows,
        "datasets": [{"name": "planted", "source": "requests", "path": str(data)}],
        "recipe": RECIPE,
    }
    return build_suite({**settings, **changes})
