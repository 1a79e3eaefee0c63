"""A log reader: impressions as JSON lines, one per item that was shown."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from goalrank.errors import ConfigError, DataError
from goalrank.logs import ImportOptions, RawLog

_SCHEMA = {"view": pl.String, "user": pl.String, "item": pl.String, "slot": pl.Int64,
           "at": pl.Int64, "clicked": pl.Boolean}  # fmt: skip


def read_impressions(path: Path | None, options: ImportOptions) -> RawLog:
    """Read lines such as {"view": "v1", "user": "u1", "item": "i7", "slot": 0, "at": 1714564800, "clicked": true}.

    What was shown together has the same `view`; `at` is in seconds since 1970 (UTC).

    Raises:
        ConfigError: no path.
        DataError: the file is missing, is no JSON, or lacks a field.
    """
    if path is None:
        raise ConfigError("source 'impressions' needs a file of JSON lines; give its path")
    try:
        rows = pl.read_ndjson(path, schema=_SCHEMA)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"'{path}' cannot be read as JSON lines ({error})") from error
    if any(rows.null_count().row(0)):
        missing = [name for name in _SCHEMA if rows[name].null_count()]
        raise DataError(f"'{path}' has lines without {missing}; remedy: every line has them all")
    events = rows.sort("at", "view", "slot", maintain_order=True).select(
        user_id="user",
        item_id="item",
        time=pl.col("at") * 1_000_000,  # microseconds
        request_id="view",
        position="slot",
        click=pl.col("clicked").cast(pl.Float32),
    )
    return RawLog(
        dataset=path.stem,
        shape="exposures",
        events=events,
        kinds=("click",),
        target="click",
        strength="click",
        rate_kinds=("click",),
        counts={"rows_read": rows.height},
    )
