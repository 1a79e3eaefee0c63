"""Export of a store as a requests table that training reads."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import polars as pl
import sqlalchemy as sa

from goalrank.errors import DataError
from goalrank.requests import TIME, Column, Requests, TableInfo, is_within
from goalrank.serving.store.database import EXPOSURES, FEEDBACK
from goalrank.serving.store.layouts import EARLIER, Layout, stored_info, stored_layouts
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
        left_out: feedback per kind that lies outside the kind's range, so that nothing could be
            trained on it; servers of earlier versions accepted it.
    """

    folder: Path
    requests: dict[str, int]
    left_out: dict[str, int] = field(default_factory=dict)


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

    Feedback that never came is 0, and null where the model that served the request did not know
    the kind. The tables have the candidate features and feedback kinds of all models that served a
    request of the range, and the retriever's scores if any request came with them; they are null where a
    request has none.

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
        frames = _Frames(store, connection, start, end)
        yield from frames.tables(items, users, chunk)


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
            frames = _Frames(store, connection, start, end)
            total = frames.total
            if total == 0:
                raise DataError(
                    "the store holds no exposure in that range; remedy: widen it; options: start, "
                    "end"
                )
            tables = frames.tables(items, users, chunk)
            counts = _write(tables, temporary, total - int(total * validation))
        for side in ("items.parquet", "users.parquet"):
            if (temporary / "train" / side).exists():
                shutil.copyfile(temporary / "train" / side, temporary / side)
    return Exported(out, counts, dict(+frames.left_out))


class _Frames:
    """Tables of the exposures of a range, each with the same columns.

    Attributes:
        total: number of exposures.
        left_out: feedback outside the range of its kind so far, per kind.
    """

    def __init__(
        self, store: Store, connection: sa.Connection, start: datetime | None, end: datetime | None
    ) -> None:
        self._store, self._connection, self._range = store, connection, (start, end)
        self._layouts = stored_layouts(connection)
        self._info = self._of_range(stored_info(connection) or TableInfo())
        scored = sa.func.sum(sa.cast(EXPOSURES.c.scored, sa.Integer))
        query = sa.select(sa.func.count(), scored).select_from(EXPOSURES)
        total, with_scores = connection.execute(query.where(*in_range(start, end))).one()
        self.total, self._scored = int(total), bool(with_scores)
        self.left_out: Counter[str] = Counter()

    def _of_range(self, info: TableInfo) -> TableInfo:
        """The description without kinds and features that no list of the range could have."""
        within = in_range(*self._range)
        names = _layout_names(self._connection, within)
        layouts = [self._layouts.get(name, Layout.of(info)) for name in names]
        answered = sa.select(FEEDBACK.c.kind).join(EXPOSURES).where(*within).distinct()
        kinds = {info.target, *self._connection.scalars(answered)}
        kinds.update(*(each.feedback_kinds for each in layouts))
        features = {n for each in layouts for n in each.candidate_features}
        return info.replace(
            feedback_kinds=tuple(k for k in info.feedback_kinds if k in kinds),
            feedback_ranges={k: v for k, v in info.feedback_ranges.items() if k in kinds},
            candidate_features=tuple(n for n in info.candidate_features if n in features),
        )

    def tables(
        self, items: pl.DataFrame | None, users: pl.DataFrame | None, chunk: int
    ) -> Iterator[Requests]:
        """Read the exposures, at most `chunk` per table."""
        for rows in self._store.rows(*self._range, chunk, self._connection):
            yield Requests(self._frame(rows), items=items, users=users, info=self._info)

    def _frame(self, rows: list[dict[str, Any]]) -> pl.DataFrame:
        columns = {column.name: [row.get(column.name) for row in rows] for column in _PLAIN}
        frame = pl.DataFrame(columns, schema_overrides=_TYPES, strict=False)
        moments = [column for column in _PLAIN if column.entry == TIME]
        frame = frame.with_columns(pl.col(each.name).cast(each.dtype()) for each in moments)
        if self._scored:
            scores = [row["candidate_score"] or None for row in rows]
            dtype: pl.DataType = pl.List(pl.Float32)
            frame = frame.with_columns(pl.Series("candidate_score", scores, dtype=dtype))
        if width := len(self._info.candidate_features):
            dtype = pl.List(pl.Array(pl.Float32, width))
            vectors = [self._vectors(row) for row in rows]
            frame = frame.with_columns(pl.Series("candidate_features", vectors, dtype=dtype))
        kinds = [
            pl.Series(kind, [self._answers(row, kind) for row in rows], dtype=pl.List(pl.Float32))
            for kind in self._info.feedback_kinds
        ]
        return frame.with_columns(pl.DataFrame(kinds).to_struct("feedback")) if kinds else frame

    def _layout(self, row: dict[str, Any]) -> Layout:
        return self._layouts.get(row.get("layout", EARLIER), Layout.of(self._info))

    def _vectors(self, row: dict[str, Any]) -> list[list[float | None]] | None:
        """Features of a request in the order of the description; None where it has none."""
        vectors, names = row["candidate_features"], self._layout(row).candidate_features
        if not vectors or len(vectors[0]) != len(names):
            return None
        if names == self._info.candidate_features:
            return cast("list[list[float | None]]", vectors)
        at = [names.index(n) if n in names else -1 for n in self._info.candidate_features]
        return [[vector[i] if i >= 0 else None for i in at] for vector in vectors]

    def _answers(self, row: dict[str, Any], kind: str) -> list[float] | None:
        """Feedback of one kind along the list; None where nobody asked for it."""
        found = {slot: value for (slot, k), value in row["slot_feedback"].items() if k == kind}
        if not found and kind not in self._layout(row).feedback_kinds:
            return None
        bounds = self._info.feedback_ranges.get(kind, (None, None))
        good = {slot: value for slot, value in found.items() if is_within(value, bounds)}
        self.left_out[kind] += len(found) - len(good)
        return [good.get(slot, 0.0) for slot in range(len(row["shown"]))]


def _layout_names(connection: sa.Connection, within: list[sa.ColumnElement[bool]]) -> set[str]:
    """Names of the layouts of some exposures."""
    body: sa.ColumnElement[Any] = sa.type_coerce(EXPOSURES.c.body, sa.JSON)
    if connection.dialect.name != "sqlite":
        body = sa.cast(EXPOSURES.c.body, sa.JSON)
    query = sa.select(body["layout"].as_string()).where(*within).distinct()
    return {name or EARLIER for (name,) in connection.execute(query)}


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


def _stored(column: Column) -> pl.DataType:
    """The type in which the store keeps a column: times are numbers of microseconds."""
    dtype = column.dtype()
    if column.entry == TIME:
        return pl.List(pl.Int64()) if column.is_list else pl.Int64()
    return dtype


# Columns that every row has; those along the candidates need all rows or the table's description.
_PLAIN = tuple(column for column in KEPT if column.along != "candidates")
_TYPES = {column.name: _stored(column) for column in _PLAIN if column.entry is not None}
