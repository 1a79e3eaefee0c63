"""Requests tables on disk: Parquet files and folders of shards, written whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from goalrank.errors import DataError
from goalrank.requests.table.columns import conform
from goalrank.requests.table.info import TableInfo, info_from_metadata, info_to_metadata
from goalrank.storage import whole_file

ROW_GROUP = 65_536
SIDE_FILES = ("items.parquet", "users.parquet")


def write_table(path: Path, frames: Iterable[pl.DataFrame], info: TableInfo | None = None) -> None:
    """Write conforming frames of one schema to `path` (not atomic: give a temporary name).

    Each frame starts a new row group; none is longer than `ROW_GROUP` rows. A page's checksum
    lets `open_table` notice damage later.
    """
    metadata = info_to_metadata(info) if info is not None else None
    writer = None
    try:
        for frame in frames:
            # Parquet cannot hold a struct without fields; reading puts the column back.
            empty = frame.schema.get("feedback") == pl.Struct([])
            held = frame.drop("feedback") if empty else frame
            table = held.to_arrow().replace_schema_metadata(metadata)
            if writer is None:
                writer = pq.ParquetWriter(
                    path, table.schema, compression="zstd", write_page_checksum=True
                )
            writer.write_table(table, row_group_size=ROW_GROUP)
    finally:
        if writer is not None:
            writer.close()


def write_dataset(
    path: Path, frame: pl.DataFrame, info: TableInfo, sides: dict[Path, pl.DataFrame | None]
) -> None:
    """Write a table and its side tables: all files take their names only when all are written."""
    with ExitStack() as stack:
        write_table(stack.enter_context(whole_file(path)), slices(frame), info)
        for target, side in sides.items():
            if side is not None and not _holds(target, side):
                write_table(stack.enter_context(whole_file(target)), slices(side))


def slices(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """A frame in pieces of a row group; an empty frame is one empty piece."""
    if frame.height == 0:
        yield frame
    yield from frame.iter_slices(ROW_GROUP)


def is_folder(path: Path) -> bool:
    """Whether `path` is, or would be, a folder of shards rather than a file."""
    return path.is_dir() or (not path.exists() and path.suffix != ".parquet")


def shard_files(path: Path) -> list[Path]:
    """The Parquet files of a dataset, sorted by name; side tables and temporary files left out.

    Raises:
        DataError: nothing there.
    """
    if not path.exists():
        raise DataError(
            f"'{path}' does not exist; remedy: give a Parquet file or a folder of shards"
        )
    if not path.is_dir():
        return [path]
    files = [
        file
        for file in sorted(path.glob("*.parquet"))
        if file.name not in SIDE_FILES and not file.name.startswith((".", "_"))
    ]
    if not files:
        raise DataError(f"folder '{path}' holds no requests (*.parquet); remedy: check the path")
    return files


def new_shard(path: Path) -> Path:
    """A name after those of all earlier parts; the random end keeps two writers apart."""
    taken = [file.stem.split("-")[1] for file in path.glob("part-*-*.parquet")]
    number = max((int(n) for n in taken if n.isdigit()), default=-1) + 1
    return path / f"part-{number:06d}-{secrets.token_hex(4)}.parquet"


def side_path(path: Path, name: str) -> Path | None:
    """Path of a dataset's side table: in the folder of shards, or next to the file or folder."""
    places = ([path / name] if path.is_dir() else []) + [path.parent / name]
    return next((place for place in places if place.is_file()), None)


@contextmanager
def open_table(path: Path) -> Iterator[tuple[Any, TableInfo | None]]:
    """An open Parquet file and its description (None for a table goalrank did not write).

    Raises:
        DataError: not there, empty, truncated, damaged (also while reading inside the block), or
            of a newer format.
    """
    if not path.is_file():
        raise DataError(f"'{path}' is not a file; remedy: give the path of a Parquet file")
    if path.stat().st_size == 0:
        raise DataError(f"'{path}' is empty (0 bytes); remedy: write it again or restore a copy")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file, info_from_metadata(file.schema_arrow.metadata, path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"'{path}' is no readable Parquet file ({_reason(error)}): truncated, damaged or of "
            f"another format; remedy: write it again or restore a copy"
        ) from error


def read_side(path: Path) -> pl.DataFrame:
    """A side table as it is on disk."""
    with open_table(path) as (file, _):
        return _frame(file.read())


def stream(
    path: Path,
    rows: int,
    item_id: pl.DataType | None = None,
    user_id: pl.DataType | None = None,
    default: TableInfo | None = None,
) -> Iterator[tuple[pl.DataFrame, TableInfo]]:
    """Conforming frames of exactly `rows` rows (the last may be shorter), across all shards.

    Memory is bounded by about two such frames and one compressed row group's pages.

    Args:
        path: file or folder.
        rows: rows of a frame.
        item_id: id type of the table of items, None without it.
        user_id: id type of the table of users, None without it.
        default: description for files that have none.

    Raises:
        DataError: a shard is damaged, or its columns or description differ from the first's.
    """
    held: list[pl.DataFrame] = []
    count, info = 0, None
    for piece, info in _pieces(path, rows, item_id, user_id, default):
        held.append(piece)
        count += piece.height
        while count >= rows:
            joined = pl.concat(held)
            yield joined.head(rows), info
            held, count = [joined.slice(rows)], count - rows
    if count and info is not None:
        yield pl.concat(held), info


def read_all(
    path: Path, item_id: pl.DataType | None = None, user_id: pl.DataType | None = None
) -> tuple[pl.DataFrame, TableInfo]:
    """The whole dataset as one conforming frame; errors as `stream`."""
    pieces = list(_pieces(path, None, item_id, user_id))
    return pl.concat([frame for frame, _ in pieces]), pieces[0][1]


def _pieces(
    path: Path,
    rows: int | None,
    item_id: pl.DataType | None,
    user_id: pl.DataType | None,
    default: TableInfo | None = None,
) -> Generator[tuple[pl.DataFrame, TableInfo], None, None]:
    """Conforming frames as they come from the files; every file gives one, if only an empty one."""
    first: tuple[pl.DataFrame, TableInfo] | None = None
    for shard in shard_files(path):
        with open_table(shard) as (file, own):
            told = own or default
            for frame in _raw_frames(file, rows):
                try:
                    piece, info = conform(frame, told, item_id=item_id, user_id=user_id)
                except DataError as error:
                    raise type(error)(f"'{shard}': {error}") from error
                first = first or (piece.clear(), info)
                default = default or info
                check_alike(f"'{shard}'", piece, info, *first)
                yield piece, info


def _raw_frames(file: Any, rows: int | None) -> Iterator[pl.DataFrame]:
    if rows is None or file.metadata.num_rows == 0:
        yield _frame(file.read())
        return
    for batch in file.iter_batches(batch_size=rows):
        yield _frame(pa.Table.from_batches([batch]))


def check_alike(
    source: str, frame: pl.DataFrame, info: TableInfo, other: pl.DataFrame, other_info: TableInfo
) -> None:
    """Refuse to join tables whose columns, types or descriptions differ.

    Raises:
        DataError: names each column or field that differs.
    """
    ours, theirs = frame.schema, other.schema
    names = dict.fromkeys([*ours, *theirs])
    odd = [
        f"column '{n}' is {ours.get(n, 'absent')}, before {theirs.get(n, 'absent')}"
        for n in names
        if ours.get(n) != theirs.get(n)
    ]
    odd += [
        f"TableInfo.{n} is {getattr(info, n)!r}, before {getattr(other_info, n)!r}"
        for n in TableInfo.model_fields
        if getattr(info, n) != getattr(other_info, n)
    ]
    if odd:
        raise DataError(
            f"{source} does not match the rest of the dataset: {'; '.join(odd)}; "
            f"remedy: give all parts the same columns, types and TableInfo"
        )


def append_dataset(path: Path, more: pl.DataFrame, info: TableInfo) -> None:
    """Add conforming requests to a dataset that exists: a new shard, or a file written again.

    Raises:
        DataError: a request id is there already, or the tables differ.
    """
    check_new_ids(path, more["request_id"])
    # A file is written again and may gain a description; shards without one must stay as they are.
    default = None if path.is_dir() else info
    with closing(_pieces(path, 1, None, None, default)) as pieces:
        check_alike("what is appended", more, info, *next(pieces))
    if path.is_dir():
        with whole_file(new_shard(path)) as temporary:
            write_table(temporary, slices(more), info)
        return
    old = (frame for frame, _ in stream(path, ROW_GROUP, default=default))
    with whole_file(path) as temporary:
        write_table(temporary, chain(old, slices(more)), info)


def check_new_ids(path: Path, ids: pl.Series) -> None:
    """Refuse request ids that the dataset holds already, or that come twice.

    Raises:
        DataError: names some of them.
    """
    seen = ids.filter(ids.is_duplicated()).unique().to_list()
    for shard in shard_files(path):
        with open_table(shard) as (file, _):
            for batch in file.iter_batches(batch_size=ROW_GROUP * 4, columns=["request_id"]):
                old = _frame(pa.Table.from_batches([batch]))
                if old.width:
                    seen += (
                        old["request_id"].filter(old["request_id"].is_in(ids.implode())).to_list()
                    )
    if seen:
        raise DataError(
            f"{len(seen)} request ids are in '{path}' already or come twice ({seen[:5]}); nothing "
            f"was appended; remedy: give new requests new ids"
        )


def _frame(table: Any) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()


def _holds(path: Path, frame: pl.DataFrame) -> bool:
    try:
        return path.is_file() and read_side(path).equals(frame)
    except DataError:
        return False  # damaged: to be replaced


def _reason(error: BaseException) -> str:
    lines: Sequence[str] = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
