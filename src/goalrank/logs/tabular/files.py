"""Files of a log: found by path, folder, glob or address, and read into one table.

CSV, TSV, JSON lines and Parquet, each plain or compressed (gzip, zstd); folders of parts, and
folders of hive partitions (`day=2026-01-01/part.parquet`), whose keys become columns.
"""

from __future__ import annotations

import glob
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from goalrank.errors import ConfigError, DataError
from goalrank.logs.tabular.notes import ImportNotes
from goalrank.storage import Location

FORMATS = ("csv", "jsonl", "parquet")
_ENDINGS = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".inter": "csv", ".tab": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
_PACKED = (".gz", ".gzip", ".zst", ".zstd")
_SEPARATORS = (",", "\t", ";", "|")
_HIVE = re.compile(r"^([A-Za-z_][\w.-]*)=(.*)$")
# Text that a float would not give back: zero-padded or long whole numbers, and "12e5" without a dot.
_NO_NUMBER = r"^-?(0\d+|\d{19,}|\d+[eE]\d+)$"
_HEAD = 1 << 16
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True)
class TableRules:
    """How files are to be read; what is None is found out, and said.

    Attributes:
        format: csv, jsonl or parquet; None goes by the files' endings and first bytes.
        separator: of CSV.
        decimal: "." or ",".
        encoding: of text, for instance "utf-8" or "latin-1".
        header: names of the columns of CSV without a header line; empty: the first line has them.
    """

    format: str | None = None
    separator: str | None = None
    decimal: str | None = None
    encoding: str = "utf-8"
    header: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableFiles:
    """The files of one table.

    Attributes:
        name: what was asked for, for messages.
        files: in the order of their names.
        format: one of `FORMATS`.
        folder: where side tables are looked for; None for several places.
    """

    name: str
    files: tuple[Location, ...]
    format: str
    folder: Location | None


def find_files(source: str | Path, rules: TableRules) -> TableFiles:
    """The files that a path, a folder, a glob or an address names.

    A path that exists is taken as it is, also where it holds characters of a glob.

    Raises:
        DataError: nothing is there, or files of several formats.
        ConfigError: an unknown format.
    """
    text = str(source)
    if rules.format is not None and rules.format not in FORMATS:
        raise ConfigError(
            f"format '{rules.format}' is unknown; known: {', '.join(FORMATS)}; option: format"
        )
    place = Location(text)
    if not place.exists():
        found = sorted(glob.glob(text)) if "://" not in text else []
        if not found:
            raise DataError(
                f"nothing found at '{text}'; remedy: give a file, a folder of parts, a glob such "
                f"as 'logs/*.csv' (in quotes), or an address such as s3://bucket/logs"
            )
        files = [Location(name) for name in found if Path(name).is_file()]
        return _table(text, files, rules, None)
    if place.is_folder():
        return _table(text, _parts(place), rules, place)
    return _table(text, [place], rules, place.parent())


def _parts(folder: Location) -> list[Location]:
    """Data files of a folder and of its hive partitions; hidden files and side tables left out."""
    sides = ("items.parquet", "users.parquet")
    return [
        file for file in folder.walk() if _ending(file.name) is not None and file.name not in sides
    ]


def _ending(name: str) -> str | None:
    low = name.lower()
    for packed in _PACKED:
        low = low.removesuffix(packed)
    return _ENDINGS.get(PurePosixPath(low).suffix)


def _table(
    name: str, files: list[Location], rules: TableRules, folder: Location | None
) -> TableFiles:
    if not files:
        endings = ", ".join(sorted(_ENDINGS))
        raise DataError(f"'{name}' holds no data files; known endings: {endings} (also .gz, .zst)")
    formats = {rules.format or _ending(file.name) or _by_content(file) for file in files}
    if len(formats) > 1:
        raise DataError(
            f"'{name}' holds files of several formats ({', '.join(sorted(map(str, formats)))}); "
            f"remedy: a glob that takes one of them, or option format"
        )
    return TableFiles(name, tuple(files), formats.pop(), folder)


def _by_content(file: Location) -> str:
    head = file.read(lambda opened: opened.read(4))
    return "parquet" if head == b"PAR1" else "jsonl" if head[:1] in (b"{", b"[") else "csv"


def read_files(found: TableFiles, rules: TableRules, notes: ImportNotes) -> pl.DataFrame:
    """All rows of a table's files, in the order of the files' names.

    Raises:
        DataError: an empty, damaged or unreadable file; it is named.
    """
    frames = []
    for file in found.files:
        try:
            frame = _read(file, found.format, rules, notes)
        except (pl.exceptions.PolarsError, UnicodeError, EOFError, OSError) as error:
            first = (str(error).splitlines() or ["unreadable"])[0][:200]
            raise DataError(
                f"'{file.address}' cannot be read as {found.format}: {first}; remedy: see whether "
                f"it is whole, or give options format, separator and encoding"
            ) from None
        frames.append(_with_partition(frame, file, found))
    frame = _together(frames, found)
    if frame.height == 0:
        raise DataError(f"'{found.name}' has no rows; a log needs at least one")
    return frame


class TableColumns:
    """Columns of a table, each read when it is asked for where the files allow it.

    Parquet files of one schema on a disk do; other tables are read whole.

    Args:
        found: the files.
        rules: how they are to be read.
        notes: get what was guessed.

    Attributes:
        names: of the columns.
        height: number of rows.

    Raises:
        DataError: an empty, damaged or unreadable file; it is named.
    """

    def __init__(self, found: TableFiles, rules: TableRules, notes: ImportNotes) -> None:
        self._found = found
        self._frame = None if _alike_on_disk(found) else read_files(found, rules, notes)
        if self._frame is not None:
            self.names, self.height = self._frame.columns, self._frame.height
            return
        heads = [pl.scan_parquet(p, hive_partitioning=False, glob=False) for p in self._paths]
        self.names = heads[0].collect_schema().names()
        self.height = sum(int(head.select(pl.len()).collect().item()) for head in heads)

    @property
    def _paths(self) -> list[str]:
        return [file.address for file in self._found.files]

    def __getitem__(self, name: str) -> pl.Series:
        """A column, whole."""
        if self._frame is not None:
            return self._frame[name]
        return pl.concat(
            [pl.read_parquet(p, columns=[name], hive_partitioning=False, glob=False)[name]
             for p in self._paths]
        )  # fmt: skip


def _alike_on_disk(found: TableFiles) -> bool:
    """Whether a table's files are whole Parquet files of one schema here, without hive keys."""
    if found.format != "parquet" or not all(file.on_disk for file in found.files):
        return False
    try:
        paths = [file.address for file in found.files]
        if not all(Path(path).is_file() for path in paths):
            return False
        schemas = [pl.read_parquet_schema(path) for path in paths]
    except (pl.exceptions.PolarsError, OSError):
        return False  # reading it whole says what is wrong
    keyed = any(_with_partition(pl.DataFrame(), file, found).width for file in found.files)
    rows = sum(pl.scan_parquet(p, glob=False).select(pl.len()).collect().item() for p in paths)
    return rows > 0 and not keyed and all(schema == schemas[0] for schema in schemas)


def _read(file: Location, form: str, rules: TableRules, notes: ImportNotes) -> pl.DataFrame:
    data = file.read(lambda opened: opened.read())
    if not data:
        raise DataError(f"'{file.address}' is empty (0 bytes); a log needs at least one row")
    if form == "parquet":
        return pl.read_parquet(io.BytesIO(data), hive_partitioning=False)
    data = _unpacked(data, file)
    if form == "jsonl":
        return _read_json(data, file)
    return _read_csv(data, file, rules, notes)


def _unpacked(data: bytes, file: Location) -> bytes:
    import gzip
    import zlib

    if data[:2] == b"\x1f\x8b":
        try:
            return gzip.decompress(data)
        except (zlib.error, EOFError) as error:
            raise DataError(
                f"'{file.address}' is damaged or cut off ({error}); remedy: fetch it again"
            ) from None
    if data[:4] == b"\x28\xb5\x2f\xfd":
        import pyarrow as pa

        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            return bytes(stream.read())
    return data


def _read_json(data: bytes, file: Location) -> pl.DataFrame:
    text = data.lstrip()
    if text[:1] == b"[":
        return pl.read_json(io.BytesIO(text), infer_schema_length=None)
    try:
        return pl.read_ndjson(io.BytesIO(text), infer_schema_length=None)
    except pl.exceptions.ComputeError as error:
        raise DataError(
            f"'{file.address}' is no JSON lines file: {str(error).splitlines()[0][:200]}; remedy: "
            f"one object per line, each name with one type of value (ids all numbers or all text)"
        ) from None


def _read_csv(data: bytes, file: Location, rules: TableRules, notes: ImportNotes) -> pl.DataFrame:
    try:
        text = data.decode(rules.encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise DataError(
            f"'{file.address}' is not written in {rules.encoding} ({error}); remedy: "
            f"--set encoding=latin-1 or the like (option: encoding)"
        ) from None
    text = text.removeprefix("\ufeff")
    separator = rules.separator or _separator(text, file, notes)
    frame = pl.read_csv(
        io.BytesIO(text.encode()),
        separator=separator,
        infer_schema=False,
        has_header=not rules.header,
        new_columns=list(rules.header) or None,
    )
    rows = frame.height
    frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    notes.leave_out("rows", rows - frame.height, rows, "empty lines")
    frame = _without_index(frame, notes).rename(_plain_names(frame.columns, notes), strict=False)
    comma = rules.decimal == "," or (rules.decimal is None and separator != ",")
    return frame.select(_typed(column, comma, rules, notes) for column in frame.get_columns())


def _separator(text: str, file: Location, notes: ImportNotes) -> str:
    """The sign that cuts the first lines into the same number of fields, at least two."""
    lines = [line for line in text[:_HEAD].splitlines()[:20] if line.strip()]
    counts = {sign: {line.count(sign) for line in lines} for sign in _SEPARATORS}
    even = [sign for sign, found in counts.items() if len(found) == 1 and found != {0}]
    some = [sign for sign, found in counts.items() if min(found, default=0) > 0]
    best = max(even or some or [","], key=lambda sign: lines[0].count(sign) if lines else 0)
    if best != ",":
        notes.guess(f"separator of {file.name}", {"\t": "tab"}.get(best, f"'{best}'"), "separator")
    return best


def _without_index(frame: pl.DataFrame, notes: ImportNotes) -> pl.DataFrame:
    """Without a first column that has no name and only counts the rows, as pandas writes it."""
    first = frame.columns[0]
    if first not in ("", "_duplicated_0", "Unnamed: 0"):
        return frame
    numbers = frame[first].cast(pl.Int64, strict=False)
    if numbers.null_count() == 0 and (numbers.diff().drop_nulls() == 1).all():
        notes.guess("first column", "row numbers without a name; not used", "columns")
        return frame.drop(first)
    return frame


def _plain_names(names: Sequence[str], notes: ImportNotes) -> dict[str, str]:
    """Names without a type behind a colon (`user_id:token`, as RecBole writes it)."""
    typed = re.compile(r"^(.+):(token|float|token_seq|float_seq)$")
    plain = {name: match.group(1) for name in names if (match := typed.match(name))}
    if plain:
        notes.guess("names of columns", "types behind a colon are left out", "columns")
    return plain


def _typed(column: pl.Series, comma: bool, rules: TableRules, notes: ImportNotes) -> pl.Series:
    """Text as numbers or truth values where nothing is lost: "0012" is an id and stays text."""
    name, empty = column.name, column.null_count()
    for dtype in (pl.Int64, pl.UInt64):
        whole = column.cast(dtype, strict=False)
        if whole.null_count() == empty:
            same = (whole.cast(pl.String) == column).all()
            return whole if same else column
    if not column.str.contains(_NO_NUMBER).fill_null(False).any():
        number = column.cast(pl.Float64, strict=False)
        if number.null_count() == empty:
            return number
    if comma and column.str.contains(r"^-?\d+(,\d+)?$").all():
        notes.guess(f"decimal sign of {name}", "','", "decimal")
        return column.str.replace(",", ".").cast(pl.Float64)
    low = column.str.to_lowercase()
    if low.is_in(list(_TRUTH)).all() and empty < len(column):
        return low == "true"
    return column


def _with_partition(frame: pl.DataFrame, file: Location, found: TableFiles) -> pl.DataFrame:
    """The rows with the keys of their hive partition as columns."""
    above = "" if found.folder is None else found.folder.address.rstrip("/")
    below = file.address.removeprefix(above).strip("/").split("/")[:-1]
    keys = {m.group(1): m.group(2) for part in below if (m := _HIVE.match(part))}
    new: dict[str, Any] = {name: pl.lit(value) for name, value in keys.items()}
    return frame.with_columns(**{n: v for n, v in new.items() if n not in frame.columns})


def _together(frames: list[pl.DataFrame], found: TableFiles) -> pl.DataFrame:
    if len(frames) == 1:
        return frames[0]
    names = set(frames[0].columns)
    for file, frame in zip(found.files, frames):
        if set(frame.columns) != names:
            odd = sorted(names.symmetric_difference(frame.columns))
            raise DataError(
                f"'{file.address}' has other columns than '{found.files[0].address}' "
                f"({', '.join(odd)}); remedy: the same columns in all parts"
            )
    return pl.concat(frames, how="vertical_relaxed" if _alike(frames) else "diagonal_relaxed")


def _alike(frames: list[pl.DataFrame]) -> bool:
    return all(frame.columns == frames[0].columns for frame in frames)
