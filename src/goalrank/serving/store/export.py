"""Export of a store as a requests table that training reads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa

from goalrank.errors import DataError
from goalrank.requests import TIME, Column, Requests, TableInfo
from goalrank.serving.store.database import EXPOSURES
from goalrank.serving.store.records import KEPT, in_range
from goalrank.serving.store.store import Store
from goalrank.storage import whole_folder

_CHUNK = 5_000


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    Attributes:
        folder: where it was written.
        requests: number of requests per part (`train`, `validation`).
    """

    folder: Path
    requests: dict[str, int]


def stored_requests(
    store: Store,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    items: pl.DataFrame | None = None,
    users: pl.DataFrame | None = None,
    chunk: int = _CHUNK,
) -> Iterator[Requests]:
    """Read the served requests with start ≤ time < end as requests tables, in order of time.

    Feedback that never came is 0. The tables have the retriever's scores if every request came
    with them.

    Args:
        store: the store.
        start: earliest time; None from the first.
        end: time before which requests are read; None up to the last.
        items: side table of items to add to each table.
        users: side table of users to add to each table.
        chunk: requests per table, at most.

    Yields:
        Tables of at most `chunk` requests.
    """
    with store.reading() as connection:
        yield from _tables(store, connection, start, end, items, users, chunk)


def export_store(
    store: Store,
    out: Path,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    validation: float = 0.1,
    items: pl.DataFrame | None = None,
    users: pl.DataFrame | None = None,
    chunk: int = _CHUNK,
) -> Exported:
    """Write a folder for `goalrank train`: partitioned tables `train` and `validation`.

    Args:
        store: the store.
        out: a new folder; it is written whole or not at all.
        start: earliest time; None from the first.
        end: time before which requests are exported; None up to the last.
        validation: share in [0, 1) of the requests, the latest ones, that become `validation`; 0
            writes only `train`.
        items: side table of items to write with the requests.
        users: side table of users to write with the requests.
        chunk: requests held in memory, and requests per partition.

    Returns:
        Where it was written and how many requests each part has.

    Raises:
        DataError: there is nothing in the range, `out` exists, or the disk refuses.
    """
    if out.exists():
        raise DataError(f"'{out}' exists already; remedy: give a new folder; option: out")
    with whole_folder(out) as temporary:
        with store.reading() as connection:
            total, _ = _overview(connection, start, end)
            if total == 0:
                raise DataError(
                    "the store holds no exposure in that range; remedy: widen it; options: start, "
                    "end"
                )
            tables = _tables(store, connection, start, end, items, users, chunk)
            counts = _write(tables, temporary, total - int(total * validation))
        for side in ("items.parquet", "users.parquet"):
            if (temporary / "train" / side).exists():
                shutil.copyfile(temporary / "train" / side, temporary / side)
    return Exported(out, counts)


def _overview(
    connection: sa.Connection, start: datetime | None, end: datetime | None
) -> tuple[int, bool]:
    """Count the exposures of a range; and tell whether all have the retriever's scores."""
    scored = sa.func.sum(sa.cast(EXPOSURES.c.scored, sa.Integer))
    query = sa.select(sa.func.count(), scored).select_from(EXPOSURES).where(*in_range(start, end))
    total, with_scores = connection.execute(query).one()
    return int(total), (with_scores or 0) == total


def _tables(
    store: Store,
    connection: sa.Connection,
    start: datetime | None,
    end: datetime | None,
    items: pl.DataFrame | None,
    users: pl.DataFrame | None,
    chunk: int,
) -> Iterator[Requests]:
    info = store.info
    _, scored = _overview(connection, start, end)
    for rows in store.rows(start, end, chunk, connection):
        yield Requests(_frame(rows, info, scored), items=items, users=users, info=info)


def _write(tables: Iterator[Requests], folder: Path, cut: int) -> dict[str, int]:
    """Write partitions of `train` (the first `cut` requests) and `validation`; count each."""
    counts = {"train": 0, "validation": 0}
    for table in tables:
        head = min(max(cut - counts["train"], 0), len(table))
        for part, rows in (("train", table.head(head)), ("validation", _rest(table, head))):
            if len(rows):
                Requests.append(folder / part, rows)
                counts[part] += len(rows)
    return counts


def _rest(table: Requests, head: int) -> Requests:
    return table.take(range(head, len(table)))


def _frame(rows: list[dict[str, Any]], info: TableInfo, scored: bool) -> pl.DataFrame:
    width = len(info.candidate_features)
    columns = {column.name: [row[column.name] for row in rows] for column in _PLAIN}
    frame = pl.DataFrame(columns, schema_overrides=_TYPES, strict=False)
    moments = [column for column in _PLAIN if column.entry == TIME]
    frame = frame.with_columns(pl.col(each.name).cast(each.dtype()) for each in moments)
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
                [row["slot_feedback"].get((s, kind), 0.0) for s in range(len(row["shown"]))]
                for row in rows
            ],
            dtype=pl.List(pl.Float32),
        )
        for kind in info.feedback_kinds
    ]
    return frame.with_columns(pl.DataFrame(kinds).to_struct("feedback")) if kinds else frame


def _stored(column: Column) -> pl.DataType:
    """The type in which the store keeps a column: times are numbers of microseconds."""
    dtype = column.dtype()
    if column.entry == TIME:
        return pl.List(pl.Int64()) if column.is_list else pl.Int64()
    return dtype


# Columns that every row has; those along the candidates need all rows or the table's description.
_PLAIN = tuple(column for column in KEPT if column.along != "candidates")
_TYPES = {column.name: _stored(column) for column in _PLAIN if column.entry is not None}
