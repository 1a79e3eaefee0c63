"""What events say of items and users, for the side tables of a retraining."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from goalrank.errors import DataError
from goalrank.requests import Told, ToldOnto, told_onto
from goalrank.storage import whole_file
from goalrank.wording import counted

if TYPE_CHECKING:
    from goalrank.serving import Store

TOLD = "told.parquet"
_SCHEMA = {"table": pl.String, "id": pl.String, "columns": pl.String}
_SIDES = {"items": "item_id", "users": "user_id"}


def export_told(store: Store, folder: Path, *, until: datetime | None = None) -> None:
    """Write the latest columns of items and users that a store's events tell, if they tell any.

    Args:
        store: the server's store.
        folder: where `told.parquet` is written: a row per id, with id and columns as JSON.
        until: what holds only from this time on is left out; None takes all.

    Raises:
        DataError: the file cannot be written.
        StoreError: the store refuses.
    """
    from goalrank.serving import told_columns

    told = told_columns(store, until=until)
    rows = [
        {"table": table, "id": json.dumps(own), "columns": json.dumps(columns)}
        for table, of in told.items()
        for own, columns in of.items()
    ]
    place = folder / TOLD
    try:
        if not rows:
            place.unlink(missing_ok=True)
            return
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(place) as temporary:
            pl.DataFrame(rows, schema=_SCHEMA).write_parquet(temporary)
    except OSError as error:
        raise DataError(
            f"'{place}' cannot be written ({error}); remedy: check disk and rights"
        ) from error


def with_told(
    side: pl.DataFrame | None, table: str, folders: Sequence[Path]
) -> tuple[pl.DataFrame | None, list[str], list[str]]:
    """A side table with what events told, and sentences for people: of what was taken, and not.

    Args:
        side: of the imported data.
        table: "items" or "users".
        folders: that may hold `told.parquet`; the last one that does counts.

    Raises:
        DataError: the file is damaged.
    """
    places = [place for folder in folders if (place := folder / TOLD).is_file()]
    told = _read(places[-1], table) if places else {}
    if not told:
        return side, [], []
    one = table.removesuffix("s")
    if side is None:
        number = counted(len(told), one)
        said = f"events tell columns of {number}, but the data have no side table of {table}"
        return None, [], [said]
    found = told_onto(side, told, _SIDES[table])
    number = counted(found.taken, one)
    taken = [f"columns of {number} as events told them last"] if found.taken else []
    left = "; ".join(_left_out(found, one))
    return found.table, taken, [f"left out of what events told of {table}: {left}"] if left else []


def _left_out(found: ToldOnto, one: str) -> Iterator[str]:
    """What a side table did not take.

    Args:
        found: the table.
        one: "item" or "user".
    """
    if found.other_ids:
        yield f"{counted(found.other_ids, one)} with an id of another type than the table's"
    for column, count in found.lacking.items():
        yield f"column '{column}' of {counted(count, one)}, which the table has not, or no value of"
    for column, count in found.other_values.items():
        yield f"column '{column}' of {counted(count, one)}, as a value of another type or length"


def _read(place: Path, table: str) -> Told:
    try:
        frame = pl.read_parquet(place, columns=list(_SCHEMA)).filter(pl.col("table") == table)
        rows = frame.select("id", "columns").iter_rows()
        return {json.loads(own): json.loads(columns) for own, columns in rows}
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise DataError(
            f"'{place}' is damaged ({str(error).splitlines()[0]}); remedy: remove it; the next export "
            f"writes it anew"
        ) from None
