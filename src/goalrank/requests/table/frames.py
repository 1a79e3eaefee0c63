"""Tables of polars and pandas, with their own column names, as columns of a requests table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from goalrank.errors import SchemaError
from goalrank.requests.table.columns import COLUMNS

_KIND = "feedback."
_HINT = "remedy: names={OURS: YOURS} (option: names)"


def renamed(frame: pl.DataFrame, names: Mapping[str, str]) -> pl.DataFrame:
    """The table under our names; a list column per feedback kind becomes one struct.

    Args:
        frame: the user's table.
        names: our name → the user's; "feedback.KIND" → a column with one list per row. A column
            that has our name already needs no entry.

    Raises:
        SchemaError: a name of ours or of the user's that does not exist, or one given twice.
    """
    if not isinstance(frame, pl.DataFrame):
        raise SchemaError(
            f"the requests table is a {type(frame).__name__}, expected a polars DataFrame; remedy: "
            f"LazyFrame.collect(), or Requests.from_pandas for a table of pandas"
        )
    for ours, theirs in names.items():
        if ours not in COLUMNS and not (ours.startswith(_KIND) and ours != _KIND):
            known = ", ".join((*COLUMNS, f"{_KIND}KIND"))
            raise SchemaError(f"names has '{ours}', but our columns are {known}; {_HINT}")
        if theirs not in frame.columns:
            raise SchemaError(
                f"names takes '{ours}' from '{theirs}', but the table's columns are "
                f"{frame.columns}; {_HINT}"
            )
    rest = [name for name in frame.columns if name not in names.values()]
    given = dict(names) | {name: name for name in rest if name.startswith(_KIND)}
    kinds = {ours.removeprefix(_KIND): given[ours] for ours in given if ours.startswith(_KIND)}
    columns = {ours: theirs for ours, theirs in given.items() if not ours.startswith(_KIND)}
    for name in (*columns, *(["feedback"] if kinds else [])):
        if name in rest or (name == "feedback" and kinds and name in columns):
            raise SchemaError(
                f"'{name}' is given twice: the table has a column of that name, and names gives "
                f"another; remedy: frame.drop('{name}'), or leave '{name}' out of names"
            )
    out = [frame[theirs].alias(ours) for ours, theirs in columns.items()]
    out += [frame[name] for name in rest if name not in given]  # ours, or refused as unknown
    if kinds:
        lists = [frame[theirs].alias(kind) for kind, theirs in kinds.items()]
        out.append(pl.DataFrame(lists).to_struct("feedback"))
    return pl.DataFrame(out)


def pandas_to_polars(frame: Any, what: str) -> pl.DataFrame:
    """A pandas table in polars; its index is left out.

    Args:
        frame: a pandas DataFrame; cells may hold lists or arrays of numpy.
        what: named in errors.

    Raises:
        SchemaError: no pandas table, times of which only some have a zone, or a column of
            mixed types.
    """
    if isinstance(frame, pl.DataFrame) or not hasattr(frame, "iloc"):
        raise SchemaError(
            f"{what} is a {type(frame).__name__}, expected a pandas DataFrame; remedy: "
            f"Requests.from_polars for a table of polars"
        )
    return pl.DataFrame([_column(frame[name], str(name), what) for name in frame.columns])


def refuse_naive_times(frame: pl.DataFrame, names: Mapping[str, str]) -> None:
    """Refuse times without a zone, with the remedy in pandas' words.

    Raises:
        SchemaError: a column of times has no zone.
    """
    for ours, fix in (
        ("time", "frame['{}'].dt.tz_localize('UTC')"),
        ("history_time", "frame['{}'].map(lambda row: [t.tz_localize('UTC') for t in row])"),
    ):
        theirs = names.get(ours, ours)
        dtype = frame.schema.get(theirs)
        inner = dtype.inner if isinstance(dtype, pl.List) else dtype
        if isinstance(inner, pl.Datetime) and inner.time_zone is None:
            raise SchemaError(
                f"column '{theirs}' holds times without a zone; {ours} wants a moment; remedy: say "
                f"which zone they are in, such as {fix.format(theirs)}"
            )


def _column(column: Any, name: str, what: str) -> pl.Series:
    if str(column.dtype) == "object":
        _refuse_mixed_zones(column, name, what)
        if any(isinstance(cell, np.ndarray) and cell.ndim > 1 for cell in column):
            column = column.map(lambda cell: None if cell is None else np.asarray(cell).tolist())
    try:
        return pl.Series(name, pl.from_pandas(column))
    except Exception as error:  # of pyarrow, polars or pandas, by the kind of mixture
        raise SchemaError(
            f"column '{name}' of {what} cannot be read ({str(error).splitlines()[0]}); remedy: one "
            f"type in the whole column: numbers, strings, times with a zone, or lists of them"
        ) from error


def _refuse_mixed_zones(column: Any, name: str, what: str) -> None:
    """Refuse columns where only some times have a zone: the others would be read as UTC."""
    cells = (cell if isinstance(cell, list | tuple | np.ndarray) else [cell] for cell in column)
    naive = {time.tzinfo is None for cell in cells for time in cell if isinstance(time, datetime)}
    if len(naive) > 1:
        raise SchemaError(
            f"column '{name}' of {what} holds times with a zone and times without; remedy: give "
            f"every time its zone, e.g. time.tz_localize('UTC')"
        )
