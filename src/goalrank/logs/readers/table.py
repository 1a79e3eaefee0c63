"""Reader of any csv or Parquet table of interactions or exposures, by a column mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from goalrank.errors import ConfigError, SchemaError
from goalrank.logs.options import ImportOptions
from goalrank.logs.readers.parsing import (
    as_float,
    as_id,
    as_micros,
    drop_duplicates,
    first_existing,
    pick,
    read_any,
)
from goalrank.logs.readers.raw_log import RawLog

__all__ = ["interactions_log", "read_exposures", "read_interactions", "read_items"]

_INTERACTIONS = {
    "user_id": ("user_id", "user"),
    "item_id": ("item_id", "item"),
    "time": ("time", "timestamp"),
    "rating": ("rating",),
}
_EXPOSURES = {
    "user_id": ("user_id", "user"),
    "item_id": ("item_id", "item"),
    "time": ("time", "timestamp"),
    "request_id": ("request_id",),
    "position": ("position",),
}


def read_interactions(path: Path | None, options: ImportOptions) -> RawLog:
    """Read a table with user_id, item_id, time and optionally rating.

    Feedback types: rating and like (target) if there are ratings, otherwise interaction (always 1).
    ``items.parquet`` and ``users.parquet`` in the same folder become the side tables.

    Args:
        path: csv or Parquet file.
        options: settings of the import; ``columns`` maps other column names.

    Raises:
        ConfigError: no path, or an unknown column or target.
        DataError: the file is missing, empty or damaged.
        SchemaError: a column is missing or of the wrong type.
    """
    path = _required_path(path, "interactions")
    aliases = _mapped(_INTERACTIONS, options.columns, "interactions")
    return interactions_log(
        read_any(path),
        aliases,
        options,
        dataset=path.stem,
        where=str(path),
        items=read_items(path.parent),
        users=_read_side(path.parent, "users.parquet"),
    )


def interactions_log(
    frame: pl.DataFrame,
    aliases: Mapping[str, Sequence[str]],
    options: ImportOptions,
    *,
    dataset: str,
    where: str,
    items: pl.DataFrame | None = None,
    users: pl.DataFrame | None = None,
) -> RawLog:
    """Make the log of interactions, with or without ratings.

    Args:
        frame: the table as read.
        aliases: column name of goalrank → names in the table, in order of preference.
        options: settings of the import.
        dataset: name of the data set.
        where: name of the table for errors.
        items: side table of items, or ``None``.
        users: side table of users, or ``None``.

    Raises:
        ConfigError: an unknown target.
        SchemaError: a column is missing or of the wrong type.
    """
    rows = frame.height
    frame = pick(frame, aliases, where=where, optional=("rating",))
    frame, duplicates = drop_duplicates(frame)
    events = _base(frame, where, options)
    rated = "rating" in frame.columns
    if rated:
        rating = as_float(frame, "rating", where=where)
        like = (rating >= options.like_threshold).cast(pl.Float32)
        events = events.with_columns(rating=rating, like=like)
    else:
        events = events.with_columns(interaction=pl.lit(1.0, pl.Float32))
    target = options.target or ("like" if rated else "interaction")
    kinds = ("rating", "like") if rated else ("interaction",)
    _check_target(target, kinds)
    return RawLog(
        dataset=dataset,
        shape="interactions",
        events=events,
        kinds=kinds,
        target=target,
        strength=kinds[0],
        rate_kinds=("like",) if rated else (),
        items=_match_ids(items, "item_id", events),
        users=_match_ids(users, "user_id", events),
        categories=_categories(items),
        counts={"rows_read": rows, "duplicates_dropped": duplicates},
    )


def read_exposures(path: Path | None, options: ImportOptions) -> RawLog:
    """Read a table with user_id, item_id, time, feedback, and optionally request_id and position.

    ``kinds`` names the feedback columns (default: all other numeric columns; ``columns`` may rename
    them), ``target`` the one that is relevance (default: the first). With request ids, the rows of
    one id are one request; otherwise windows are cut. Position orders rows of the same time.

    Args:
        path: csv or Parquet file.
        options: settings of the import.

    Raises:
        ConfigError: no path, or an unknown column or target.
        DataError: the file is missing, empty or damaged.
        SchemaError: a column is missing or of the wrong type.
    """
    path = _required_path(path, "exposures")
    frame = read_any(path)
    extra = {k: v for k, v in options.columns.items() if k not in _EXPOSURES}
    aliases = _mapped(
        _EXPOSURES, {k: v for k, v in options.columns.items() if k in _EXPOSURES}, "exposures"
    )
    taken = {name for names in aliases.values() for name in names}
    kinds = options.kinds or tuple(extra) or tuple(
        name for name, dtype in frame.schema.items()
        if name not in taken and (dtype.is_numeric() or dtype == pl.Boolean)
    )  # fmt: skip
    if not kinds:
        raise SchemaError(f"{path}: no feedback column; name them with kinds=(...)")
    wanted = {**aliases, **{kind: (extra.get(kind, kind),) for kind in kinds}}
    rows = frame.height
    frame = pick(frame, wanted, where=str(path), optional=("request_id", "position"))
    frame, duplicates = drop_duplicates(frame)
    target = options.target or kinds[0]
    _check_target(target, kinds)
    items = read_items(path.parent)
    events = _exposure_events(frame, kinds, target, str(path), options)
    return RawLog(
        dataset=path.stem,
        shape="exposures",
        events=events,
        kinds=kinds,
        target=target,
        strength="strength",
        rate_kinds=tuple(k for k in kinds if _minimum(events, k) >= 0 and _maximum(events, k) <= 1),
        items=_match_ids(items, "item_id", events),
        users=_match_ids(_read_side(path.parent, "users.parquet"), "user_id", events),
        categories=_categories(items),
        counts={"rows_read": rows, "duplicates_dropped": duplicates},
    )


def _exposure_events(
    frame: pl.DataFrame, kinds: tuple[str, ...], target: str, where: str, options: ImportOptions
) -> pl.DataFrame:
    events = _base(frame, where, options)
    events = events.with_columns(as_float(frame, kind, where=where).alias(kind) for kind in kinds)
    events = events.with_columns(pl.col(target).alias("strength"))
    if "request_id" in frame.columns:
        number = frame["request_id"].cast(pl.String).rank("dense").cast(pl.Int64)
        # All rows of a request get its first time, so that they stay together.
        events = events.with_columns(request_id=number)
        events = events.with_columns(pl.col("time").min().over("request_id"))
    order = [
        c for c in ("time", "request_id", "position") if c in events.columns or c in frame.columns
    ]
    if "position" in frame.columns:
        events = events.with_columns(position=as_float(frame, "position", where=where))
    events = events.sort(order, maintain_order=True)
    return events.drop("position", strict=False)


def _minimum(frame: pl.DataFrame, name: str) -> float:
    return float(frame[name].min())  # type: ignore[arg-type]


def _maximum(frame: pl.DataFrame, name: str) -> float:
    return float(frame[name].max())  # type: ignore[arg-type]


def _base(frame: pl.DataFrame, where: str, options: ImportOptions) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": as_id(frame, "user_id", where=where),
            "item_id": as_id(frame, "item_id", where=where),
            "time": as_micros(frame, "time", where=where, unit=options.time_unit),
        }
    )


def _required_path(path: Path | None, source: str) -> Path:
    if path is None:
        raise ConfigError(f"source '{source}' needs a path to a csv or Parquet file")
    return path


def _mapped(
    aliases: Mapping[str, Sequence[str]], columns: Mapping[str, str], source: str
) -> dict[str, Sequence[str]]:
    unknown = [name for name in columns if name not in aliases]
    if unknown:
        raise ConfigError(
            f"columns maps '{unknown[0]}', which source '{source}' does not have; "
            f"column names: {', '.join(aliases)}"
        )
    return {ours: (columns[ours],) if ours in columns else names for ours, names in aliases.items()}


def _check_target(target: str, kinds: tuple[str, ...]) -> None:
    if target not in kinds:
        raise ConfigError(f"target '{target}' is no feedback kind; kinds: {', '.join(kinds)}")


def read_items(folder: Path) -> pl.DataFrame | None:
    """Read ``items.parquet`` of a folder; ``None`` if there is none.

    Args:
        folder: the folder.
    """
    return _read_side(folder, "items.parquet")


def _read_side(folder: Path, name: str) -> pl.DataFrame | None:
    path = first_existing(folder, (name,))
    return None if path is None else read_any(path)


def _match_ids(side: pl.DataFrame | None, key: str, events: pl.DataFrame) -> pl.DataFrame | None:
    """Convert the ids of a side table to the log's type."""
    if side is None:
        return None
    if key not in side.columns:
        raise SchemaError(f"side table without column {key}; present: {', '.join(side.columns)}")
    side = side.with_columns(pl.col(key).cast(events.schema[key], strict=False))
    return side.drop_nulls(key).unique(key, keep="first", maintain_order=True)


def _categories(items: pl.DataFrame | None) -> tuple[str, ...]:
    """Columns for affinity features: strings and lists of strings, without those for display."""
    if items is None:
        return ()
    good = (pl.String, pl.List(pl.String))
    shown = ("title", "url", "item_id")
    return tuple(n for n, t in items.schema.items() if t in good and n not in shown)[:4]
