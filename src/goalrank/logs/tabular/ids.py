"""Ids without loss: integers of any width, strings as they are; mixed columns are refused."""

from __future__ import annotations

import polars as pl

from goalrank.errors import SchemaError

_INTEGER = r"^-?(0|[1-9][0-9]*)$"


def as_ids(column: pl.Series, *, where: str, option: str = "columns") -> pl.Series:
    """A column of ids as Int64 or String.

    Whole numbers become Int64 where all of them fit and each would be written the same again
    ("17", not "017"); hashes above 2^63 - 1 and zero-padded numbers stay strings.

    Args:
        column: integers, strings, categories, or floats that are whole numbers.
        where: file, named in errors.
        option: option that names the column, for errors.

    Raises:
        SchemaError: a null, a type that cannot be an id, or numbers beside other text.
    """
    check_no_empty(column, where=where, option=option)
    if column.dtype.is_integer():
        return _integers(column)
    if column.dtype.is_float():
        return _integers(_whole(column, where, option))
    if column.dtype in (pl.Categorical, pl.Enum) or column.dtype == pl.String:
        return _strings(column.cast(pl.String), where)
    raise SchemaError(
        f"{where}: {column.name} has type {column.dtype}; ids are integers or strings (option: {option})"
    )


def check_no_empty(column: pl.Series, *, where: str, option: str = "columns") -> None:
    """Refuse a column with empty values.

    Args:
        column: values that every row needs.
        where: file, named in errors.
        option: option that names the column, for errors.

    Raises:
        SchemaError: an empty value; its row is named.
    """
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        raise SchemaError(
            f"{where}: {column.name} is empty in row {row + 1} ({column.null_count():,} in all); "
            f"remedy: fill or remove these rows, or name another column (option: {option})"
        )


def _integers(column: pl.Series) -> pl.Series:
    """Int64, or the digits as String where any number is too large for it."""
    fits = column.cast(pl.Int64, strict=False)
    return column.cast(pl.String) if fits.null_count() else fits


def _whole(column: pl.Series, where: str, option: str) -> pl.Series:
    """Floats such as 17.0 as integers: tables with gaps are often kept so."""
    good = column.is_finite() & (column == column.floor()) & (column.abs() <= 2.0**53)
    if good.all():
        return column.cast(pl.Int64)
    row = int((~good).arg_max() or 0)
    raise SchemaError(
        f"{where}: {column.name} = {column[row]!r} in row {row + 1} is no whole number below 2^53; "
        f"ids are integers or strings; remedy: keep ids as text (option: {option})"
    )


def _strings(column: pl.Series, where: str) -> pl.Series:
    """Int64 where every text is a plain whole number; strings where none is, or none would fit."""
    plain = column.str.contains(_INTEGER)
    if plain.all():
        numbers = column.cast(pl.Int64, strict=False)
        return column if numbers.null_count() else numbers
    return column


def check_alike(columns: dict[str, pl.Series]) -> None:
    """Refuse ids that are numbers in one table and text in another.

    Args:
        columns: name of the table → its ids, as `as_ids` gives them.

    Raises:
        SchemaError: types differ; examples of both are shown.
    """
    kinds = {name: column.dtype for name, column in columns.items() if len(column)}
    if len(set(kinds.values())) < 2:
        return
    shown = "; ".join(
        f"{name}: {columns[name].head(3).to_list()} ({dtype})" for name, dtype in kinds.items()
    )
    raise SchemaError(
        f"ids are numbers in one table and text in another ({shown}); remedy: write them the same "
        f"way in all tables"
    )
