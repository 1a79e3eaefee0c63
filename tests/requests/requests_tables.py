"""Small requests tables for the tests: one by hand, and Hypothesis strategies for any valid one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import strategies as st

from goalrank.requests.table.info import TableInfo, storable_name
from goalrank.requests.table.requests import Requests

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
INFO = TableInfo(
    dataset="hand",
    feedback_kinds=("click", "rating"),
    target="click",
    candidate_features=("p", "q"),
)


def hand_frame(rows: int = 4, start: int = 0) -> pl.DataFrame:
    """`rows` faultless requests of three candidates with every column filled."""
    numbers = range(start, start + rows)
    return pl.DataFrame(
        {
            "request_id": [f"r{i}" for i in numbers],
            "user_id": list(numbers),
            "time": [NOON + timedelta(hours=i) for i in numbers],
            "history": [[7, 8]] * rows,
            "history_feedback": [[1.0, 0.0]] * rows,
            "history_time": [[NOON - timedelta(days=2), NOON - timedelta(days=1)]] * rows,
            "candidates": [[10, 11, 12]] * rows,
            "candidate_score": [[0.3, 0.2, 0.1]] * rows,
            "candidate_features": pl.Series(
                [[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]] * rows,
                dtype=pl.List(pl.Array(pl.Float32, 2)),
            ),
            "shown": [[2, 0]] * rows,
            "feedback": [{"click": [0.0, 1.0], "rating": [3.0, 5.0]}] * rows,
            "propensity": [0.5] * rows,
            "policy": ["old"] * rows,
            "experiment": ["A"] * rows,
        }
    )


def hand_table(rows: int = 4, start: int = 0) -> Requests:
    """`hand_frame` as Requests, without side tables."""
    return Requests(hand_frame(rows, start), info=INFO)


def replaced(row: int, column: str, value: Any) -> Requests:
    """`hand_table` with one cell changed."""
    frame = hand_frame()
    cells = frame[column].to_list()
    cells[row] = value
    dtype = frame.schema[column]
    return Requests(frame.with_columns(pl.Series(column, cells, dtype=dtype)), info=INFO)


_names = st.text(min_size=1, max_size=3).filter(storable_name)


@st.composite
def tables(draw: st.DrawFn, min_rows: int = 1) -> Requests:
    """Any valid table: either id type, 0–3 kinds, optional columns in or out, lengths from 0."""
    item_ids = draw(st.sampled_from([st.integers(-(2**63), 2**63 - 1), st.text(max_size=4)]))
    user_ids = draw(st.sampled_from([st.integers(-(2**63), 2**63 - 1), st.text(max_size=4)]))
    kinds = draw(st.lists(_names, max_size=3, unique=True))
    width = draw(st.integers(0, 2))
    optional = draw(st.sets(st.sampled_from(["score", "propensity", "policy", "experiment"])))
    ids = draw(st.lists(st.text(max_size=5), min_size=min_rows, max_size=6, unique=True))
    if not ids:
        return hand_table(0)
    rows = [_row(draw, name, user_ids, item_ids, kinds, width, optional) for name in ids]
    schema: dict[str, Any] = {"feedback": pl.Struct({k: pl.List(pl.Float32) for k in kinds})}
    if width:
        schema["candidate_features"] = pl.List(pl.Array(pl.Float32, width))
    info = TableInfo(
        feedback_kinds=tuple(kinds),
        target=draw(st.sampled_from([None, *kinds])),
        candidate_features=tuple(f"x{i}" for i in range(width)),
        protocol=draw(st.sampled_from(["exposed", "retrieved", "injected"])),
        warning=draw(st.none() | st.text(max_size=5)),
    )
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return Requests(pl.DataFrame(columns, schema_overrides=schema), info=info)


_floats = st.floats(-1e6, 1e6, width=32)


def _row(
    draw: st.DrawFn,
    name: str,
    user_ids: st.SearchStrategy[Any],
    item_ids: st.SearchStrategy[Any],
    kinds: list[str],
    width: int,
    optional: set[str],
) -> dict[str, Any]:
    def floats(n: int) -> list[float]:
        return draw(st.lists(_floats, min_size=n, max_size=n))

    candidates = draw(st.lists(item_ids, min_size=1, max_size=4, unique=True))
    ages = sorted(draw(st.lists(st.integers(1, 10**12), max_size=3)), reverse=True)
    n, h = len(candidates), len(ages)
    shown = draw(st.permutations(range(n)))[: draw(st.integers(0, n))]
    row: dict[str, Any] = {
        "request_id": name,
        "user_id": draw(user_ids),
        "time": NOON,
        "history": draw(st.lists(item_ids, min_size=h, max_size=h)),
        "history_feedback": floats(h),
        "history_time": [NOON - timedelta(microseconds=age) for age in ages],
        "candidates": candidates,
        "shown": shown,
        "feedback": {kind: floats(len(shown)) for kind in kinds},
    }
    if width:
        row["candidate_features"] = [floats(width) for _ in range(n)]
    if "score" in optional:
        row["candidate_score"] = floats(n)
    if "propensity" in optional:
        row["propensity"] = draw(st.none() | st.floats(1e-9, 1.0))
    row |= {
        c: draw(st.none() | st.text(max_size=3)) for c in ("policy", "experiment") if c in optional
    }
    return row
