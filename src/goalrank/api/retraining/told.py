"""What events say of items and users, for the side tables of a retraining."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from goalrank.errors import DataError
from goalrank.requests import Told, told_onto
from goalrank.storage import whole_file
from goalrank.wording import counted

if TYPE_CHECKING:
    from goalrank.serving import Store

TOLD = "told.parquet"
_SIDES = {"items": "item_id", "users": "user_id"}


def export_told(store: Store, folder: Path) -> None:
    """Write the latest columns of items and users that a store's events tell, if they tell any.

    Args:
        store: the server's store.
        folder: where `told.parquet` is written: a row per id, with id and columns as JSON.

    Raises:
        DataError: the file cannot be written.
        StoreError: the store refuses.
    """
    from goalrank.serving import told_columns

    told = told_columns(store)
    rows = [
        {"table": table, "id": json.dumps(own), "columns": json.dumps(columns)}
        for table, of in told.items()
        for own, columns in of.items()
    ]
    place = folder / TOLD
    if not rows:
        place.unlink(missing_ok=True)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(place) as temporary:
            pl.DataFrame(rows).write_parquet(temporary)
    except OSError as error:
        raise DataError(
            f"'{place}' cannot be written ({error}); remedy: check disk and rights"
        ) from error


def with_told(
    side: pl.DataFrame | None, table: str, folders: Sequence[Path]
) -> tuple[pl.DataFrame | None, list[str]]:
    """A side table with what events told, and a sentence for people.

    Args:
        side: of the imported data.
        table: "items" or "users".
        folders: that may hold `told.parquet`; the last one that does counts.
    """
    places = [place for folder in folders if (place := folder / TOLD).is_file()]
    told = _read(places[-1], table) if places else {}
    if not told:
        return side, []
    number = counted(len(told), table.removesuffix("s"))
    if side is None:
        return None, [
            f"events tell columns of {number}, but the data have no side table of {table}"
        ]
    return told_onto(side, told, _SIDES[table]), [f"columns of {number} as events told them last"]


def _read(place: Path, table: str) -> Told:
    frame = pl.read_parquet(place).filter(pl.col("table") == table)
    rows = frame.select("id", "columns").iter_rows()
    return {json.loads(own): json.loads(columns) for own, columns in rows}
