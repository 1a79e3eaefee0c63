"""A dataset as parts that can be worked on apart, on disk or in an object store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from goalrank.errors import ConfigError, DataError
from goalrank.requests.table import parquet as io
from goalrank.requests.table.columns import conform, conform_side
from goalrank.requests.table.info import info_from_metadata
from goalrank.requests.table.requests import Requests
from goalrank.storage import Location

T = TypeVar("T")


@dataclass(frozen=True)
class Partition:
    """Consecutive requests of one Parquet file.

    Attributes:
        file: where.
        groups: its row groups that hold them.
        start: requests of these groups before the part's first.
        rows: requests of the part.
        first: number of the part's first request in the dataset.
    """

    file: Location
    groups: tuple[int, ...]
    start: int
    rows: int
    first: int


@dataclass(frozen=True)
class Dataset:
    """Requests by part; side tables are held once.

    Attributes:
        parts: in the order of the files' names.
        items, users: side tables, None without.
    """

    parts: tuple[Partition, ...]
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None

    @property
    def rows(self) -> int:
        """Requests in all."""
        return sum(part.rows for part in self.parts)

    def read(self, part: Partition) -> Requests:
        """The requests of a part.

        Raises:
            DataError: the file is damaged, or was changed meanwhile.
            ExecutorError: the store failed on every try.
        """
        return read_partition(part, self.items, self.users)


def open_dataset(address: str, rows: int = io.ROW_GROUP) -> Dataset:
    """Find the files of a dataset and cut them into parts, by their footers alone.

    Args:
        address: Parquet file or folder of shards: a path, or an fsspec address (s3://…).
        rows: at most so many requests per part. A file's row groups are joined up to it, and larger
            ones are cut.

    Raises:
        ConfigError: rows below 1, or a protocol without its library.
        DataError: nothing there, no requests, or a damaged file.
        ExecutorError: the store failed on every try.
    """
    if rows < 1:
        raise ConfigError(
            f"rows = {rows}, but a part holds at least one request; remedy: rows >= 1"
        )
    place = Location(address)
    if not place.exists():
        raise DataError(
            f"'{address}' does not exist; remedy: give a Parquet file or a folder of shards"
        )
    folder = place.is_folder()
    files = place.files(".parquet") if folder else [place]
    files = [file for file in files if file.name not in io.SIDE_FILES] if folder else files
    if not files:
        raise DataError(f"folder '{address}' holds no requests (*.parquet); remedy: check the path")
    parts: list[Partition] = []
    first = 0
    for file in files:
        sizes = _guarded(file, _group_sizes)
        parts += _cut(file, sizes, rows, first)
        first += sum(sizes)
    if not first:
        raise DataError(f"'{address}' holds no requests; remedy: check the filter that made it")
    near = ([place] if folder else []) + [place.parent()]
    return Dataset(tuple(parts), _side(near, "items"), _side(near, "users"))


def _group_sizes(file: BinaryIO) -> list[int]:
    metadata = pq.ParquetFile(file).metadata
    return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]


def _cut(file: Location, sizes: Sequence[int], rows: int, first: int) -> list[Partition]:
    """Row groups joined while they fit, and cut where one alone is too large."""
    parts: list[Partition] = []
    groups: list[int] = []
    held = 0
    for group, size in [*enumerate(sizes), (-1, rows + 1)]:
        if groups and held + size > rows:
            for start in range(0, held, rows):
                count = min(rows, held - start)
                parts.append(Partition(file, tuple(groups), start, count, first + start))
            first += held
            groups, held = [], 0
        if size:
            groups.append(group)
            held += size
    return parts


def _side(places: Sequence[Location], name: str) -> pl.DataFrame | None:
    for place in places:
        file = place.child(f"{name}.parquet")
        if file.exists():
            found = _guarded(file, lambda f: io._frame(pq.read_table(f)))
            return conform_side(found, f"{name[:-1]}_id")
    return None


def read_partition(
    part: Partition, items: pl.DataFrame | None = None, users: pl.DataFrame | None = None
) -> Requests:
    """See `Dataset.read`."""
    keys = (
        items["item_id"].dtype if items is not None and items.height else None,
        users["user_id"].dtype if users is not None and users.height else None,
    )

    def read(file: BinaryIO) -> Requests:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        told = info_from_metadata(parquet.schema_arrow.metadata, part.file.address)
        table = parquet.read_row_groups(list(part.groups)).slice(part.start, part.rows)
        frame, info = conform(io._frame(table), told, item_id=keys[0], user_id=keys[1])
        return Requests._trusted(frame, items, users, info)

    found = _guarded(part.file, read)
    if len(found) != part.rows:
        raise DataError(
            f"'{part.file.address}' was changed while it was read; remedy: run it again"
        )
    return found


def _guarded(file: Location, work: Callable[[BinaryIO], T]) -> T:
    """Read a file; pyarrow's complaints become ours."""
    try:
        return file.read(work)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"'{file.address}' is no readable Parquet file ({io._reason(error)}): truncated, "
            f"damaged or of another format; remedy: write it again or restore a copy"
        ) from error
    except DataError as error:
        raise type(error)(f"'{file.address}': {error}") from error
