"""`told_onto`: what was told of items or users, laid over their side table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from goalrank.requests.encoding.features import FeatureEncoder, numbers
from goalrank.requests.encoding.side_columns import SideColumns, Told

_DAY = 86_400_000_000  # microseconds
_MOMENT = 1e-6  # days: what a number of days may lose as a time
_NANOSECONDS = 86_400_000_000_000  # per day
_YEARS = (-719_162, 2_932_896)  # days of the years 1 to 9999, which dates have


@dataclass(frozen=True)
class ToldOnto:
    """A side table with what was told of its ids, and what was left out.

    Attributes:
        table: the side table.
        taken: ids of which a cell was taken.
        other_ids: ids of another type than the table's.
        lacking: column that the table lacks, or has no value of → ids of which it was told.
        other_values: column → values of another type than the column's.
    """

    table: pl.DataFrame
    taken: int = 0
    other_ids: int = 0
    lacking: Mapping[str, int] = field(default_factory=dict)
    other_values: Mapping[str, int] = field(default_factory=dict)


def told_onto(side: pl.DataFrame, told: Told, id_column: str) -> ToldOnto:
    """Lay what was told of ids over their side table, cell by cell, with rows of new ids behind it.

    As a server takes it: a null and a value of another type say nothing, and neither does a column
    that the table lacks. A column whose type cannot hold a told value takes one that can: whole
    numbers become others, dates and times become days since 1970.

    Args:
        side: the table.
        told: what was told; ids of another type than the table's are left out.
        id_column: name of the column of ids.
    """
    mine = {own: columns for own, columns in told.items() if _is_id(own, side[id_column].dtype)}
    columns = SideColumns.of(FeatureEncoder.fit(side, id_column)).shown_too()
    kept = [name for name in columns.names if name in side.columns]
    lacking, other = _left_out(mine, columns, set(kept))
    if not mine:
        return ToldOnto(side, 0, len(told), lacking, other)
    cells = columns.table(mine, side[id_column].dtype, id_column).select(id_column, *kept)
    said = cells.select(pl.any_horizontal(pl.lit(False), pl.col(kept).is_not_null()))
    table = _laid(side, cells, id_column, kept)
    return ToldOnto(table, int(said.to_series().sum()), len(told) - len(mine), lacking, other)


def _is_id(own: Any, dtype: pl.DataType) -> bool:
    if dtype == pl.String:
        return isinstance(own, str)
    return not isinstance(own, str) and -(2**63) <= own < 2**63


def _left_out(
    told: Told, columns: SideColumns, kept: set[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """How often each column was told that the table lacks, or of another type."""
    lacking: Counter[str] = Counter()
    other: Counter[str] = Counter()
    for name, value in _values(told):
        if name not in kept:
            lacking[name] += 1
        elif columns.wanted(name, value) is not None:
            other[name] += 1
    return dict(sorted(lacking.items())), dict(sorted(other.items()))


def _values(told: Told) -> Iterator[tuple[str, Any]]:
    return (pair for row in told.values() for pair in row.items() if pair[1] is not None)


def _laid(side: pl.DataFrame, cells: pl.DataFrame, id_column: str, kept: list[str]) -> pl.DataFrame:
    """The table [R] with the cells of its ids, and behind it the rows of the others."""
    new = cells.join(side, on=id_column, how="anti", maintain_order="left")
    ids = pl.concat([side[id_column], new[id_column]])
    place = pl.DataFrame({"id": cells[id_column], "place": np.arange(cells.height)})
    at = ids.alias("id").to_frame().join(place, on="id", how="left", maintain_order="left")["place"]
    out = []
    for name in side.columns:
        before = side[name].extend_constant(None, new.height) if name != id_column else ids
        if name in kept:
            told = cells[name].gather(at)
            old, fresh = _alike(before, told)
            before = old.zip_with(told.is_null(), fresh)
        out.append(before.alias(name))
    return pl.DataFrame(out)


def _alike(column: pl.Series, cells: pl.Series) -> tuple[pl.Series, pl.Series]:
    """A column and told cells in the column's type, or in one that holds both."""
    fitted = _fitted(cells, column.dtype)
    if fitted is not None:
        return column, fitted
    if isinstance(column.dtype, pl.List | pl.Array):
        return column.cast(pl.List(pl.Float32)), cells
    if cells.dtype.is_nested():
        return column.cast(pl.String), cells.list.first()
    return numbers(column).cast(pl.Float64), cells


def _fitted(cells: pl.Series, dtype: pl.DataType) -> pl.Series | None:
    """Told cells in a column's type; None where it cannot hold them."""
    if isinstance(dtype, pl.List | pl.Array):
        held = dtype.inner == pl.String or dtype.inner.is_float()
        return cells.cast(dtype) if held else None
    if cells.dtype.is_nested():
        return None if isinstance(dtype, pl.Enum) else cells.list.first().cast(dtype)
    if dtype.is_float():
        return cells.cast(dtype)
    if not (dtype.is_integer() or dtype == pl.Boolean or dtype.is_temporal()):
        return None
    fitted = _times(cells, dtype) if dtype.is_temporal() else _whole(cells, dtype)
    back = numbers(fitted).cast(pl.Float64)
    lost = _MOMENT if dtype.is_temporal() else 0.0
    same = fitted.is_null() == cells.is_null()
    return fitted if (same & ((back - cells).abs() <= lost).fill_null(True)).all() else None


def _whole(cells: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Numbers as integers or booleans; null, or another number, where they are none."""
    return cells != 0 if dtype == pl.Boolean else cells.cast(dtype, strict=False)


def _times(cells: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Days since 1970, of a column's own clock, as dates or times; null where there is none."""
    spans = dtype in (pl.Duration, pl.Time)
    cells = cells if spans else _only(cells, cells.is_between(*_YEARS))
    moments = (cells * _DAY).round().cast(pl.Int64, strict=False)
    moments = moments.cast(pl.Duration("us") if spans else pl.Datetime("us"))
    zone = getattr(dtype, "time_zone", None)
    if zone is not None:  # a clock has gaps
        moments = moments.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    if dtype == pl.Time:
        moments = moments.to_physical() * 1000  # nanoseconds since midnight
        moments = _only(moments, moments.is_between(0, _NANOSECONDS, closed="left"))
    return moments.cast(dtype, strict=False)


def _only(values: pl.Series, where: pl.Series) -> pl.Series:
    return values.zip_with(where.fill_null(False), values.clear(1))
