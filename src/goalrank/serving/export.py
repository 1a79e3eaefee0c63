"""The store's rows as a requests table that training reads."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from goalrank.errors import DataError
from goalrank.requests import Requests, TableInfo
from goalrank.serving.store import Store

_TIME = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class Exported:
    """Where an export lies and how many requests each part has."""

    folder: Path
    requests: dict[str, int]


def stored_requests(
    store: Store,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    items: pl.DataFrame | None = None,
    users: pl.DataFrame | None = None,
    chunk: int = 10_000,
) -> Iterator[Requests]:
    """What was served with start ≤ time < end as tables of at most `chunk` requests, by time.

    An item without an answer of a kind has 0 there. The retriever's scores are there if every
    request came with them.
    """
    info = store.info
    scored = all(
        row["candidate_score"] is not None for part in store.rows(start, end) for row in part
    )
    for rows in store.rows(start, end, chunk):
        yield Requests(_frame(rows, info, scored), items=items, users=users, info=info)


def export_store(
    store: Store,
    out: Path,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    validation: float = 0.1,
    items: pl.DataFrame | None = None,
    users: pl.DataFrame | None = None,
) -> Exported:
    """Write a folder that `goalrank train` takes: `train` and `validation`, cut by time.

    Args:
        out: a new folder; it appears whole or not at all.
        validation: share of the requests, the latest ones, that become `validation`; 0 writes
            `train` alone.

    Raises:
        DataError: nothing in the range, `out` exists, or the disk refuses.
    """
    if out.exists():
        raise DataError(f"'{out}' exists already; remedy: give a new folder; option: out")
    total = sum(len(rows) for rows in store.rows(start, end))
    if total == 0:
        raise DataError(
            "the store holds no exposure in that range; remedy: widen it; options: start, end"
        )
    cut = total - int(total * validation)
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        counts = {"train": 0, "validation": 0}
        for table in stored_requests(store, start, end, items=items, users=users):
            first = counts["train"]
            head = min(max(cut - first, 0), len(table))
            for part, rows in (("train", table.head(head)), ("validation", _rest(table, head))):
                if len(rows):
                    Requests.append(temporary / part, rows)
                    counts[part] += len(rows)
        for side in ("items.parquet", "users.parquet"):
            if (temporary / "train" / side).exists():
                shutil.copyfile(temporary / "train" / side, temporary / side)
        os.replace(temporary, out)
    except OSError as error:
        raise DataError(
            f"'{out}' cannot be written ({error}); remedy: free space or choose another"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Exported(out, counts)


def _rest(table: Requests, head: int) -> Requests:
    return table.take(range(head, len(table)))


def _frame(rows: list[dict[str, Any]], info: TableInfo, scored: bool) -> pl.DataFrame:
    width = len(info.candidate_features)
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in _PLAIN}
    frame = pl.DataFrame(columns, schema_overrides=_TYPES, strict=False)
    moments = [pl.col("time").cast(_TIME), pl.col("history_time").cast(pl.List(_TIME))]
    frame = frame.with_columns(*moments)
    if scored:
        scores = [row["candidate_score"] for row in rows]
        frame = frame.with_columns(pl.Series("candidate_score", scores, dtype=pl.List(pl.Float32)))
    if width:
        vectors = [row["candidate_features"] for row in rows]
        dtype = pl.List(pl.Array(pl.Float32, width))
        frame = frame.with_columns(pl.Series("candidate_features", vectors, dtype=dtype))
    kinds = [
        pl.Series(
            kind,
            [
                [row["answers"].get((s, kind), 0.0) for s in range(len(row["shown"]))]
                for row in rows
            ],
            dtype=pl.List(pl.Float32),
        )
        for kind in info.feedback_kinds
    ]
    return frame.with_columns(pl.DataFrame(kinds).to_struct("feedback")) if kinds else frame


_PLAIN = (
    "request_id", "user_id", "time", "history", "history_feedback", "history_time", "candidates",
    "shown", "propensity", "policy", "experiment",
)  # fmt: skip
_TYPES = {
    "time": pl.Int64(), "history_feedback": pl.List(pl.Float32), "history_time": pl.List(pl.Int64),
    "shown": pl.List(pl.Int32), "propensity": pl.Float64(), "policy": pl.String(),
    "experiment": pl.String(),
}  # fmt: skip
