"""Lists in a log without request ids: where one ends and the next begins."""

from __future__ import annotations

import polars as pl

from goalrank.logs.options import ImportOptions
from goalrank.logs.tabular.notes import ImportNotes

_GAP = 30.0


def with_lists(rows: pl.DataFrame, options: ImportOptions, notes: ImportNotes) -> pl.DataFrame:
    """The rows with a request number where the log tells where lists begin.

    Positions tell best: a list ends where they start again. Without positions, rows of one user and
    moment are a list, if most rows share their moment with another. Otherwise nothing is added,
    and pauses decide (`goalrank.logs.events.windows`). What was done is noted.
    """
    if "request_id" in rows.columns:
        return rows
    gap = options.max_gap_minutes or _GAP
    if "position" in rows.columns and not rows["position"].null_count():
        notes.guess(
            "lists",
            f"a new one where positions start again, or after {gap:g} minutes",
            "columns request_id=NAME",
        )
        return _by_position(rows, gap)
    together = rows.select(pl.len().over("user_id", "time") > 1).to_series().mean() or 0.0
    if float(together) > 0.5:  # type: ignore[arg-type]
        notes.guess("lists", "rows of one user and moment", "columns request_id=NAME")
        number = pl.struct("user_id", "time").rank("dense").cast(pl.Int64)
        return rows.with_columns(request_id=number)
    notes.guess(
        "lists",
        f"rows of a user until a pause of {gap:g} minutes, {options.max_list} rows at most",
        "columns request_id=NAME, max_gap_minutes, max_list",
    )
    return rows


def _by_position(rows: pl.DataFrame, gap: float) -> pl.DataFrame:
    pause = int(gap * 60_000_000)
    ordered = rows.sort("user_id", "time", "position", maintain_order=True)
    new = (
        (pl.col("user_id") != pl.col("user_id").shift(1))
        | (pl.col("position") <= pl.col("position").shift(1))
        | (pl.col("time") - pl.col("time").shift(1) > pause)
    )
    numbered = ordered.with_columns(request_id=new.fill_null(True).cum_sum().cast(pl.Int64))
    return numbered.with_columns(pl.col("time").min().over("request_id"))
