"""Amazon reviews: the publisher's ratings-only csv (user,item,rating,timestamp), or Parquet."""

from __future__ import annotations

from pathlib import Path

from goalrank.errors import ConfigError, DataError
from goalrank.logs.options import ImportOptions
from goalrank.logs.readers.parsing import first_existing, read_any
from goalrank.logs.readers.raw_log import RawLog
from goalrank.logs.readers.table import interactions_log, read_items

__all__ = ["read_amazon"]

_HEADER = ("user_id", "item_id", "rating", "timestamp")


def read_amazon(path: Path | None, options: ImportOptions) -> RawLog:
    """Read a ratings file, or a folder with ``interactions.parquet`` or ``ratings*.csv``.

    A csv without header has the columns user,item,rating,timestamp. Without ratings every review
    is a positive (feedback type ``interaction``). A column ``pos`` orders a user's reviews of one
    day; requests are still placed between days.

    Args:
        path: file or folder.
        options: settings of the import.

    Raises:
        ConfigError: no path (no Amazon data are shipped).
        DataError: the file is missing, empty or damaged.
        SchemaError: a column is missing or of the wrong type.
    """
    if path is None:
        raise ConfigError(
            "source 'amazon' needs a file: its licence does not let it ship (option: path)"
        )
    main = path
    if path.is_dir():
        found = first_existing(
            path, ("interactions.parquet", "ratings*.parquet", "ratings*.csv", "*.csv", "*.csv.gz")
        )
        if found is None:
            raise DataError(f"{path}: no interactions.parquet or ratings*.csv in it")
        main = found
    frame = read_any(main, names=_HEADER)
    if {"user_id", "pos"} <= set(frame.columns):
        frame = frame.sort("user_id", "timestamp", "pos", maintain_order=True)
    aliases = {
        "user_id": ("user_id", "reviewerID", "user"),
        "item_id": ("item_id", "asin", "parent_asin", "item"),
        "time": ("timestamp", "unixReviewTime", "time"),
        "rating": ("rating", "overall", "stars"),
    }
    items = read_items(main.parent) if main.parent == path else None
    return interactions_log(
        frame, aliases, options, dataset=f"amazon ({path.stem})", where=str(main), items=items
    )
