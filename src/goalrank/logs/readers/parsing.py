"""Parsing of foreign tables: usual formats in, columns of goalrank out, errors with remedies."""

from __future__ import annotations

import difflib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import polars as pl

from goalrank.errors import DataError, SchemaError

__all__ = [
    "as_float",
    "as_id",
    "as_micros",
    "drop_duplicates",
    "find_columns",
    "first_existing",
    "pick",
    "read_any",
    "read_zip_member",
]

_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}


def read_any(path: Path, *, names: Sequence[str] = ()) -> pl.DataFrame:
    """Read a Parquet, csv, tsv or MovieLens ``::`` file, plain or gzipped, by its ending.

    Args:
        path: the file.
        names: column names for files without a header (``.dat``).

    Raises:
        DataError: missing, empty, truncated or unreadable file, or an unknown ending.
    """
    if not path.is_file():
        raise DataError(f"no such file: {path}; give the path of a Parquet, csv or dat file")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes); a log needs at least one row")
    kind = path.name.lower().removesuffix(".gz")
    try:
        if kind.endswith((".parquet", ".pq")):
            frame = pl.read_parquet(path, glob=False)
        elif kind.endswith(".dat"):
            frame = read_double_colon(path.read_bytes(), names, str(path))
        elif kind.endswith((".csv", ".tsv", ".txt")):
            frame = read_csv(path, "\t" if kind.endswith(".tsv") else ",", names)
        else:
            raise DataError(f"{path}: unknown ending; use .parquet, .csv, .tsv, .dat or .zip")
    except (pl.exceptions.PolarsError, OSError) as error:
        first = (str(error).splitlines() or ["unreadable"])[0][:200]
        raise DataError(
            f"{path} cannot be read: {first}; the file may be truncated or of another format"
        ) from None
    if frame.height == 0:
        raise DataError(f"{path} has no rows; a log needs at least one")
    return frame


def read_csv(source: Path | IO[bytes], separator: str, names: Sequence[str] = ()) -> pl.DataFrame:
    """Read a csv.

    Args:
        source: path or open file.
        separator: character between fields.
        names: column names to use if the first line is data (its last field is a number).
    """
    frame = pl.read_csv(source, separator=separator, infer_schema=False, glob=False)
    if names and len(frame.columns) == len(names) and _numeric(frame.columns[-1]):
        if not isinstance(source, Path):
            source.seek(0)
        frame = pl.read_csv(
            source, separator=separator, has_header=False, infer_schema=False, glob=False
        )
        frame = frame.rename(dict(zip(frame.columns, names, strict=True)))
    return frame.select(_typed(column) for column in frame.get_columns())


def _typed(column: pl.Series) -> pl.Series:
    """Convert strings to numbers if that loses nothing; "0012" stays text."""
    whole = column.cast(pl.Int64, strict=False)
    if whole.null_count() == column.null_count():
        same = (whole.cast(pl.String) == column).all()
        return whole if same else column
    number = column.cast(pl.Float64, strict=False)
    return number if number.null_count() == column.null_count() else column


def _numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_double_colon(data: bytes, names: Sequence[str], where: str) -> pl.DataFrame:
    """Parse MovieLens ``a::b::c`` lines (Latin-1, no header).

    Args:
        data: content of the file.
        names: column names.
        where: name of the file for errors.

    Raises:
        SchemaError: another number of fields.
    """
    text = data.decode("latin-1").replace("::", "\x1f")
    frame = pl.read_csv(
        io.BytesIO(text.encode()),
        separator="\x1f",
        has_header=False,
        quote_char=None,
        infer_schema=False,
    )
    if len(frame.columns) != len(names):
        raise SchemaError(
            f"{where} has {len(frame.columns)} fields per line, expected {len(names)} "
            f"({'::'.join(names)})"
        )
    frame = frame.rename(dict(zip(frame.columns, names, strict=True)))
    return frame.select(_typed(column) for column in frame.get_columns())


def read_zip_member(
    archive: zipfile.ZipFile, suffix: str, names: Sequence[str]
) -> pl.DataFrame | None:
    """Read the table in a zip whose name ends with ``suffix``; ``None`` if there is none.

    Args:
        archive: the open zip.
        suffix: end of the member's name.
        names: column names for files without a header.
    """
    found = [name for name in archive.namelist() if name.endswith(suffix)]
    if not found:
        return None
    data = archive.read(found[0])
    if suffix.endswith(".dat"):
        return read_double_colon(data, names, found[0])
    if suffix.endswith(".parquet"):
        return pl.read_parquet(io.BytesIO(data))
    return read_csv(io.BytesIO(data), ",", names)


def first_existing(folder: Path, names: Sequence[str]) -> Path | None:
    """Find the first file of some patterns in a folder or its subfolder ``data``.

    Args:
        folder: the folder.
        names: glob patterns, in order of preference.
    """
    for name in names:
        for base in (folder, folder / "data"):
            found = sorted(base.glob(name))
            if found:
                return found[0]
    return None


def pick(
    frame: pl.DataFrame,
    aliases: Mapping[str, Sequence[str]],
    *,
    where: str,
    optional: Sequence[str] = (),
) -> pl.DataFrame:
    """Select and rename columns.

    Args:
        frame: the table as read.
        aliases: column name of goalrank → names in the file, in order of preference.
        where: name of the table for errors.
        optional: column names of goalrank that may be missing.

    Raises:
        SchemaError: a column is missing; the nearest present name is suggested.
    """
    chosen = find_columns(frame.columns, aliases, where=where, optional=optional)
    return frame.select(pl.col(theirs).alias(ours) for ours, theirs in chosen.items())


def find_columns(
    present: Sequence[str],
    aliases: Mapping[str, Sequence[str]],
    *,
    where: str,
    optional: Sequence[str] = (),
) -> dict[str, str]:
    """Find the columns of a table: column name of goalrank → the table's.

    Args:
        present: names of the table's columns.
        aliases: column name of goalrank → names in the file, in order of preference.
        where: name of the table for errors.
        optional: column names of goalrank that may be missing.

    Raises:
        SchemaError: a column is missing; the nearest present name is suggested.
    """
    chosen: dict[str, str] = {}
    for ours, theirs in aliases.items():
        found = next((name for name in theirs if name in present), None)
        if found is not None:
            chosen[ours] = found
        elif ours not in optional:
            near = difflib.get_close_matches(theirs[0], present, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise SchemaError(
                f"{where}: no column '{theirs[0]}' for {ours}; {hint}"
                f"present: {', '.join(present[:20])}; map it with columns={{'{ours}': ...}}"
            )
    return chosen


def as_id(frame: pl.DataFrame, name: str, *, where: str) -> pl.Series:
    """Convert a column of ids to Int64 or String; numeric strings become integers.

    Args:
        frame: the table.
        name: the column.
        where: name of the table for errors.

    Raises:
        SchemaError: nulls, or a type that cannot be an id.
    """
    column = frame[name]
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        raise SchemaError(f"{where}: {name} is null in row {row} ({column.null_count()} in all)")
    if column.dtype.is_integer():
        return column.cast(pl.Int64)
    if column.dtype == pl.String:
        return _plain_integers(column)
    if column.dtype == pl.Categorical:
        return column.cast(pl.String)
    raise SchemaError(f"{where}: {name} has type {column.dtype}; ids are integers or strings")


def _plain_integers(column: pl.Series) -> pl.Series:
    """Convert strings such as "17" to Int64, unless one would change ("007")."""
    numbers = column.cast(pl.Int64, strict=False)
    if numbers.null_count() or not (numbers.cast(pl.String) == column).all():
        return column
    return numbers


def as_float(frame: pl.DataFrame, name: str, *, where: str) -> pl.Series:
    """Convert a numeric or boolean column to Float32.

    Args:
        frame: the table.
        name: the column.
        where: name of the table for errors.

    Raises:
        SchemaError: text that is no number, a null, or a number that is not finite.
    """
    column = frame[name]
    if column.dtype == pl.String or column.dtype.is_numeric() or column.dtype == pl.Boolean:
        out = column.cast(pl.Float32, strict=False)
        bad = out.is_null() | out.is_nan() | out.is_infinite()
        if not bad.any():
            return out
        row = int(bad.arg_max() or 0)
        raise SchemaError(f"{where}: {name} = {column[row]!r} in row {row} is not a finite number")
    raise SchemaError(f"{where}: {name} has type {column.dtype}; expected numbers")


def as_micros(frame: pl.DataFrame, name: str, *, where: str, unit: str = "auto") -> pl.Series:
    """Convert a time column to Int64 microseconds since 1970, UTC.

    Args:
        frame: the table.
        name: the column.
        where: name of the table for errors.
        unit: unit of numbers: ``s``, ``ms``, ``us``, ``ns``; ``auto`` decides by the median (below
            1e11 seconds, below 1e14 milliseconds, below 1e17 microseconds).

    Raises:
        SchemaError: nulls, or text that is neither a number nor an ISO date and time.
    """
    column = frame[name]
    if column.dtype == pl.String:
        numbers = column.cast(pl.Float64, strict=False)
        column = numbers if not numbers.null_count() else _dates(column, where, name)
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        raise SchemaError(f"{where}: {name} is null or unreadable in row {row}")
    if isinstance(column.dtype, pl.Datetime) or column.dtype == pl.Date:
        return column.cast(pl.Datetime("us")).cast(pl.Int64)
    if not column.dtype.is_numeric():
        raise SchemaError(f"{where}: {name} has type {column.dtype}; expected a time")
    if unit == "auto":
        middle = abs(float(column.cast(pl.Float64).median() or 0.0))  # type: ignore[arg-type]
        unit = next(
            (u for u, top in (("s", 1e11), ("ms", 1e14), ("us", 1e17)) if middle < top), "ns"
        )
    if unit == "ns":
        return (column.cast(pl.Int64) // 1000).rename(name)
    if column.dtype.is_integer():
        return (column.cast(pl.Int64) * _PER_UNIT[unit]).rename(name)
    return (column * _PER_UNIT[unit]).round(0).cast(pl.Int64).rename(name)


def _dates(column: pl.Series, where: str, name: str) -> pl.Series:
    try:
        return column.str.to_datetime(time_unit="us", strict=False)
    except pl.exceptions.PolarsError:
        raise SchemaError(
            f"{where}: {name} = {column[0]!r} is neither a number nor an ISO date and time"
        ) from None


def drop_duplicates(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Drop rows that equal an earlier row in all columns.

    Args:
        frame: the table.

    Returns:
        The table, and the number of dropped rows.
    """
    kept = frame.unique(maintain_order=True)
    return kept, frame.height - kept.height
