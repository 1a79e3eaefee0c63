"""`Requests`: the table that log import writes and everything else reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from goalrank.errors import ConfigError, DataError, ValidationError
from goalrank.requests.table import parquet as io
from goalrank.requests.table.columns import conform, conform_side, feedback_lists
from goalrank.requests.table.frames import pandas_to_polars, refuse_naive_times, renamed
from goalrank.requests.table.info import TableInfo
from goalrank.requests.table.summary import summary_html, summary_text
from goalrank.requests.table.validation import Fault, find_faults, validation_error
from goalrank.storage import address_of, local_copy, local_path

Source = str | Path


class Requests:
    """Requests with their items and users; rows are independent of each other.

    The columns of `frame`, their types and what they mean are in `goalrank.requests.SCHEMA`, and as
    a page in docs/reference/requests-table.md.

    Args:
        frame: the table; required are request_id, user_id, time and candidates. The history
            columns, shown and feedback are empty lists where absent. Lossless casts are done.
        items: side table with `item_id` and features, or None.
        users: side table with `user_id` and features, or None.
        info: the table's description; what it leaves open is taken from the table.

    Raises:
        SchemaError: a column is missing, unknown, or of a wrong type.
        DataError: a side table's ids are null or not unique.
    """

    __slots__ = ("frame", "info", "items", "users")

    frame: pl.DataFrame
    items: pl.DataFrame | None
    users: pl.DataFrame | None
    info: TableInfo

    def __init__(
        self,
        frame: pl.DataFrame,
        *,
        items: pl.DataFrame | None = None,
        users: pl.DataFrame | None = None,
        info: TableInfo | None = None,
    ) -> None:
        self.items = conform_side(items, "item_id")
        self.users = conform_side(users, "user_id")
        self.frame, self.info = conform(
            frame, info, item_id=_key(self.items, "item_id"), user_id=_key(self.users, "user_id")
        )

    @classmethod
    def from_polars(
        cls,
        frame: pl.DataFrame,
        *,
        names: Mapping[str, str] | None = None,
        items: pl.DataFrame | None = None,
        users: pl.DataFrame | None = None,
        info: TableInfo | None = None,
        validate: bool = True,
    ) -> Requests:
        """Make requests of a polars table whose columns may have other names.

        Args:
            frame: one row per request, lists in its columns; ids stay as they are.
            names: our name → the table's; "feedback.KIND" → a column with one list per row. Columns
                that have our names need no entry; others are refused.
            items: as in `Requests`.
            users: as in `Requests`.
            info: as in `Requests`.
            validate: refuse a table with faulty rows.

        Raises:
            SchemaError: a column is missing, unknown, given twice, or of a wrong type.
            ValidationError: rows break rules; `.faults` has them all.

        Examples:
            >>> import polars as pl
            >>> from goalrank import Requests
            >>> log = pl.DataFrame({
            ...     "id": ["r1", "r2"],
            ...     "user": [7, 8],
            ...     "at": ["2026-01-05T10:00", "2026-01-05T10:01"],
            ...     "retrieved": [[1, 2, 3], [2, 3]],
            ...     "shown": [[2, 0], [1]],  # positions in `retrieved`
            ...     "clicked": [[1, 0], [0]],
            ... }).with_columns(pl.col("at").str.to_datetime(time_zone="UTC"))
            >>> requests = Requests.from_polars(log, names={
            ...     "request_id": "id", "user_id": "user", "time": "at", "candidates": "retrieved",
            ...     "feedback.click": "clicked",
            ... })
            >>> len(requests), requests.info.target
            (2, 'click')
        """
        made = cls(renamed(frame, names or {}), items=items, users=users, info=info)
        faults = made.validate() if validate else []
        if faults:
            raise validation_error(faults, "the table", len(made))
        return made

    @classmethod
    def from_pandas(
        cls,
        frame: Any,
        *,
        names: Mapping[str, str] | None = None,
        items: Any = None,
        users: Any = None,
        info: TableInfo | None = None,
        validate: bool = True,
    ) -> Requests:
        """Make requests of a pandas table; as `from_polars`, the index left out.

        Args:
            frame: one row per request; cells of list columns are lists or arrays of numpy.
            names: as in `from_polars`.
            items: side table of pandas, or None.
            users: side table of pandas, or None.
            info: as in `from_polars`.
            validate: as in `from_polars`.

        Raises:
            SchemaError: as `from_polars`; times without a zone.
            ValidationError: rows break rules; `.faults` has them all.

        Examples:
            >>> import pandas as pd
            >>> from goalrank import Requests
            >>> log = pd.DataFrame({
            ...     "request_id": ["r1"], "user_id": ["anna"], "candidates": [["a", "b", "c"]],
            ...     "ts": pd.to_datetime(["2026-01-05 10:00"]).tz_localize("Europe/Berlin"),
            ... })
            >>> Requests.from_pandas(log, names={"time": "ts"}).frame["time"][0].isoformat()
            '2026-01-05T09:00:00+00:00'
        """
        table = pandas_to_polars(frame, "the requests table")
        refuse_naive_times(table, names or {})
        sides = [
            None if side is None else pandas_to_polars(side, name)
            for side, name in ((items, "items"), (users, "users"))
        ]
        return cls.from_polars(
            table, names=names, items=sides[0], users=sides[1], info=info, validate=validate
        )

    @classmethod
    def _trusted(
        cls,
        frame: pl.DataFrame,
        items: pl.DataFrame | None,
        users: pl.DataFrame | None,
        info: TableInfo,
    ) -> Requests:
        """Make requests from parts that conform already, without checks: fast for single rows."""
        made = cls.__new__(cls)
        made.frame, made.items, made.users, made.info = frame, items, users, info
        return made

    def __len__(self) -> int:
        return self.frame.height

    def validate(self, *, max_faults: int | None = None) -> list[Fault]:
        """Every fault of the rows, in row order; an empty list if there is none.

        Args:
            max_faults: list at most so many; None lists all.
        """
        return find_faults(self.frame, self.info, max_faults)

    def refuse_faults(self, source: str | Path, first: int = 0) -> None:
        """Refuse a part of a larger table that breaks rules, ten faults at most.

        Args:
            source: the whole table's place, for the message.
            first: number of this part's first request in it.

        Raises:
            ValidationError: with the faults.
        """
        if faults := self.validate(max_faults=10):
            lines = "\n".join(f"  {fault}" for fault in faults)
            raise ValidationError(
                f"'{source}' breaks rules, rows counted from request {first}:\n{lines}\n"
                f"its lists were not written; remedy: goalrank data validate {source} lists every "
                f"fault",
                faults,
            )

    @classmethod
    def read(
        cls,
        path: Source,
        *,
        items: pl.DataFrame | Source | None = None,
        users: pl.DataFrame | Source | None = None,
        validate: bool = True,
        allow_empty: bool = False,
    ) -> Requests:
        """Read a Parquet file or a folder of shards (in the order of their names).

        Tables that goalrank did not write can be read: their description comes from the columns.

        Args:
            path: file or folder; a path, or an fsspec address (s3://…).
            items: table or path; by default items.parquet and users.parquet in the folder
                of shards, or next to `path`, if they exist.
            users: as `items`, with users.parquet.
            validate: refuse a table with faulty rows.
            allow_empty: accept a table without rows.

        Raises:
            DataError: nothing there, no rows, a damaged file, or a newer format.
            SchemaError: a column is missing, unknown, or of a wrong type.
            ValidationError: rows break rules; `.faults` has them all.
        """
        with local_copy(path, io.SIDE_FILES) as file:
            sides = _read_sides(file, items, users)
            frame, info = io.read_all(file, *_key_types(sides))
            if frame.height == 0 and not allow_empty:
                raise _no_requests(file)
        requests = cls._trusted(frame, *sides, info)
        faults = requests.validate() if validate else []
        if faults:
            raise validation_error(faults, str(path), len(requests))
        return requests

    @classmethod
    def iter_shards(cls, path: Source, rows: int = io.ROW_GROUP) -> Iterator[Requests]:
        """Stream a file or folder in tables of `rows` requests (the last may be shorter).

        Memory stays bounded for any file size; side tables are read once and shared. Rows
        are not validated: call `validate` on a shard where wanted. What is at an address (s3://…)
        is copied to a temporary folder first.

        Raises:
            ConfigError: `rows` is below 1.
            DataError: as `read`.
        """
        if rows < 1:
            raise ConfigError(
                f"rows = {rows}, but a shard holds at least one request; remedy: rows >= 1"
            )
        if address_of(path) is None:  # complain here, not at the first step of the loop
            io.shard_files(local_path(path, "path"))
        return cls._shards(path, rows)

    @classmethod
    def _shards(cls, path: Source, rows: int) -> Iterator[Requests]:
        any_rows = False
        with local_copy(path, io.SIDE_FILES) as file:
            sides = _read_sides(file, None, None)
            for frame, info in io.stream(file, rows, *_key_types(sides)):
                any_rows = True
                yield cls._trusted(frame, *sides, info)
            if not any_rows:
                raise _no_requests(file)

    def write(self, path: Source) -> Path:
        """Write the table, and side tables next to it, whole or not at all.

        Args:
            path: on this machine; a name ending in `.parquet` is a file, replaced if it exists. Any other name is a
                folder of shards, made with one shard and the side tables inside. A side table that
                is there already is replaced only if it differs.

        Raises:
            DataError: the disk is full, the folder cannot be written or holds shards already;
                what was there before is untouched.
        """
        path = local_path(path, "path")
        target, home = path, path.parent
        if io.is_folder(path):
            if path.is_dir() and any(f.name not in io.SIDE_FILES for f in path.glob("*.parquet")):
                raise DataError(
                    f"folder '{path}' holds shards already; remedy: Requests.append adds to it, "
                    f"or write to another folder"
                )
            target, home = io.new_shard(path), path
        sides = {home / "items.parquet": self.items, home / "users.parquet": self.users}
        io.write_dataset(target, self.frame, self.info, sides)
        return path

    @staticmethod
    def append(path: Source, more: Requests) -> None:
        """Add requests to a file or a folder of shards; makes it where it does not exist.

        A folder gets a new shard, so the cost is that of `more`. A file is written again in bounded
        memory, so the cost is that of the whole file: prefer a folder for steady growth. The side
        tables of an existing dataset are left as they are.

        Raises:
            DataError: a request id is there already, columns or descriptions differ, or the disk
                is full; the dataset is as it was.
        """
        path = local_path(path, "path")
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            more.write(path)
        elif len(more):
            io.append_dataset(path, more.frame, more.info)

    def take(self, indices: Sequence[int] | NDArray[np.integer[Any]] | range) -> Requests:
        """The requests at rows `indices`, in that order.

        Raises:
            DataError: an index is outside 0 … len - 1.
        """
        rows = np.asarray(indices)
        if rows.size == 0:
            return self._with(self.frame.clear())
        if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
            raise DataError(
                f"take wants row numbers, found {rows.dtype} of shape {rows.shape}; "
                f"remedy: use filter for a condition"
            )
        low, high = int(rows.min()), int(rows.max())
        if low < 0 or high >= len(self):
            raise DataError(
                f"row {low if low < 0 else high} asked of {len(self)} requests; "
                f"remedy: rows lie in 0 … {len(self) - 1}"
            )
        return self._with(self.frame[rows])

    def head(self, n: int = 5) -> Requests:
        """The first `n` requests."""
        return self._with(self.frame.head(n))

    def filter(self, *conditions: pl.Expr | pl.Series) -> Requests:
        """The requests for which all polars conditions hold; order is kept."""
        return self._with(self.frame.filter(*conditions))

    def _with(self, frame: pl.DataFrame) -> Requests:
        return self._trusted(frame, self.items, self.users, self.info)

    def relevance(self, kind: str | None = None) -> pl.Series:
        """Feedback laid out along the candidates.

        Args:
            kind: a feedback kind; None takes `info.target`.

        Returns:
            List[f32] a request, of length N: the feedback of shown candidates, 0 for the others.

        Raises:
            DataError: no such kind, or `shown` and the feedback do not fit the candidates.
        """
        kind = kind if kind is not None else self.info.target
        kinds = self.frame["feedback"].struct.fields
        if kind is None or kind not in kinds:
            raise DataError(
                f"relevance of kind {kind!r} asked, the table has {kinds}; "
                f"remedy: name one of them, or set TableInfo.target"
            )
        _, starts = _flat(self.frame["candidates"])
        shown, shown_starts = _flat(self.frame["shown"])
        values, value_starts = _flat(self.frame.select(feedback_lists(kind))[kind])
        sizes = np.repeat(np.diff(starts), np.diff(shown_starts))
        if not np.array_equal(shown_starts, value_starts) or ((shown < 0) | (shown >= sizes)).any():
            raise DataError(
                f"'shown' and 'feedback.{kind}' do not fit the candidates; "
                f"remedy: Requests.validate lists the rows"
            )
        out = np.zeros(starts[-1], np.float32)
        out[np.repeat(starts[:-1], np.diff(shown_starts)) + shown] = values
        return _lists("relevance", out, starts)

    def __repr__(self) -> str:
        return summary_text(self.frame, self.items, self.users, self.info)

    def _repr_html_(self) -> str:
        """What `repr` says, as a notebook shows it."""
        return summary_html(self.frame, self.items, self.users, self.info)


def _key(side: pl.DataFrame | None, name: str) -> pl.DataType | None:
    return side[name].dtype if side is not None and side.height else None


def _key_types(
    sides: tuple[pl.DataFrame | None, pl.DataFrame | None],
) -> tuple[pl.DataType | None, pl.DataType | None]:
    return _key(sides[0], "item_id"), _key(sides[1], "user_id")


def _read_sides(
    path: Path, items: pl.DataFrame | Source | None, users: pl.DataFrame | Source | None
) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
    """Items and users from tables, given paths, or the files next to the dataset."""
    sides = []
    for given, name in ((items, "items"), (users, "users")):
        where = io.side_path(path, f"{name}.parquet") if given is None else given
        side = io.read_side(local_path(where, name)) if isinstance(where, str | Path) else where
        sides.append(conform_side(side, f"{name[:-1]}_id"))
    return sides[0], sides[1]


def _no_requests(path: Path) -> DataError:
    return DataError(
        f"'{path}' holds no requests; remedy: check the filter that made it, or read(..., allow_empty=True)"
    )


def _flat(column: pl.Series) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Entries of a list column one after another, and the start of each row [rows + 1]."""
    lengths = column.list.len().fill_null(0)
    starts = np.concatenate([[0], np.cumsum(lengths.to_numpy())]).astype(np.int64)
    return column.filter(lengths > 0).explode().to_numpy(), starts


def _lists(name: str, values: NDArray[Any], starts: NDArray[np.int64]) -> pl.Series:
    return pl.Series(name, pa.LargeListArray.from_arrays(pa.array(starts), pa.array(values)))
