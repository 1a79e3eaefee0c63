"""Any table of interactions or of exposures, in any of the usual formats and layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from goalrank.errors import ConfigError, SchemaError
from goalrank.logs.events.copies import COPY
from goalrank.logs.options import ImportOptions
from goalrank.logs.readers.parsing import (
    as_float,
    find_columns,
    first_existing,
    read_any,
)
from goalrank.logs.readers.raw_log import CARRIED, RawLog
from goalrank.logs.tabular.columns import ALIASES
from goalrank.logs.tabular.files import TableColumns, find_files
from goalrank.logs.tabular.ids import as_ids
from goalrank.logs.tabular.lists import with_lists
from goalrank.logs.tabular.notes import ImportNotes
from goalrank.logs.tabular.showings import Showings, read_showings, table_rules, time_rules
from goalrank.logs.tabular.times import as_micros
from goalrank.storage import Location

__all__ = ["exposures_log", "interactions_log", "read_exposures", "read_interactions", "read_items"]

_INTERACTIONS = {
    "user_id": ALIASES["user_id"],
    "item_id": ALIASES["item_id"],
    "time": ALIASES["time"],
    "rating": ("rating",),
    "order": ("order", "pos"),
}
_GAP_MINUTES = 30.0


def read_interactions(path: Path | str | None, options: ImportOptions) -> RawLog:
    """A table with user_id, item_id, time and perhaps rating (``columns`` maps other names).

    Feedback types: rating and like (target) where there are ratings, else interaction (always 1).
    ``items.parquet`` and ``users.parquet`` beside the file become the side tables.

    Raises:
        ConfigError, DataError, SchemaError: what cannot be read or understood.
    """
    path = _given(path, "interactions")
    aliases = _mapped(_INTERACTIONS, options.columns, "interactions")
    notes = ImportNotes()
    found = find_files(path, table_rules(options))
    return interactions_log(
        TableColumns(found, table_rules(options), notes),
        aliases,
        options,
        dataset=_name(path),
        where=str(path),
        items=_side(found.folder, "items.parquet"),
        users=_side(found.folder, "users.parquet"),
        notes=notes,
    )


def interactions_log(
    table: TableColumns | pl.DataFrame,
    aliases: Mapping[str, Sequence[str]],
    options: ImportOptions,
    *,
    dataset: str,
    where: str,
    items: pl.DataFrame | None = None,
    users: pl.DataFrame | None = None,
    notes: ImportNotes | None = None,
) -> RawLog:
    """A RawLog of interactions, with ratings or without; it asks for one column after the other.

    Copies of rows are still in it: they are left out when the rows are in order.
    """
    notes = ImportNotes() if notes is None else notes
    present = table.columns if isinstance(table, pl.DataFrame) else table.names
    names = find_columns(present, aliases, where=where, optional=("rating", "order"))
    rated = "rating" in names
    time = table[names["time"]].rename("time")
    micros = as_micros(time, time_rules(options), notes, where=where).alias("time")
    rounded = [] if _same(time, micros) else [time]
    columns = [
        as_ids(table[names["user_id"]].rename("user_id"), where=where),
        as_ids(table[names["item_id"]].rename("item_id"), where=where),
        micros,
    ]
    for name in ("order", "rating"):
        if name in names:
            column = table[names[name]].rename(name)
            columns.append(as_float(column.to_frame(), name, where=where))
            rounded += [] if _same(column, columns[-1]) else [column]
    if rated:
        columns.append((columns[-1] >= options.like_threshold).cast(pl.Float32).rename("like"))
    else:
        columns.append(pl.Series("interaction", [1.0], pl.Float32).new_from_index(0, len(micros)))
    if rounded:
        columns.append(pl.DataFrame(rounded).hash_rows(seed=0).alias(COPY))
    events = pl.DataFrame(columns)
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
        counts={"rows_read": events.height},
        notes=notes,
        copies=True,
    )


def _same(read: pl.Series, converted: pl.Series) -> bool:
    """Whether conversion rounds nothing, so that rows are copies if their converted values are.

    Whole numbers of times may be multiplied, but not divided.
    """
    if read.dtype.is_integer() and converted.dtype.is_integer():
        return bool(converted[0] == 0 or abs(converted[0]) >= abs(read[0]))
    return read.dtype.is_numeric() and bool((converted.cast(read.dtype) == read).all())


def read_exposures(path: Path | str | None, options: ImportOptions) -> RawLog:
    """A log of lists that were shown, in any layout; see `goalrank.logs.tabular.layouts`.

    ``kinds`` names the feedback columns; without it the only column of 0 and 1 is taken.
    ``target`` is the one that is relevance (default: the first). With request ids, rows of one id
    are one request; without, lists are found and that is said.

    Raises:
        ConfigError, DataError, SchemaError: what cannot be read or understood.
    """
    path = _given(path, "exposures")
    notes = ImportNotes()
    showings = read_showings(path, options, notes)
    folder = showings.files.folder
    return exposures_log(
        showings,
        options,
        dataset=_name(path),
        items=_side(folder, "items.parquet"),
        users=_side(folder, "users.parquet"),
        notes=notes,
    )


def exposures_log(
    showings: Showings,
    options: ImportOptions,
    *,
    dataset: str,
    items: pl.DataFrame | None,
    users: pl.DataFrame | None,
    notes: ImportNotes,
) -> RawLog:
    """A RawLog of showings."""
    kinds = showings.kinds
    target = options.target or kinds[0]
    _check_target(target, kinds)
    if options.target is None and len(kinds) > 1:
        notes.guess("target", f"'{target}', the first feedback type", "target")
    rows = with_lists(showings.rows, options, notes)
    if "request_id" in rows.columns and rows.schema["request_id"] == pl.String:
        rows = rows.with_columns(
            request_label=pl.col("request_id"),
            request_id=pl.col("request_id").rank("dense").cast(pl.Int64),
        )
    if rows["shown"].all():
        rows = rows.drop("shown")
    known = ("user_id", "item_id", "time", "request_id", "position", *CARRIED)
    events = rows.select(
        *(name for name in known if name in rows.columns),
        *kinds,
        *showings.features,
        pl.col(target).alias("strength"),
    )
    return RawLog(
        dataset=dataset,
        shape="exposures",
        events=events,
        kinds=kinds,
        target=target,
        strength="strength",
        strength_parts=(target,),
        rate_kinds=tuple(k for k in kinds if _low(events, k) >= 0 and _high(events, k) <= 1),
        items=_match_ids(items, "item_id", events),
        users=_match_ids(users, "user_id", events),
        categories=_categories(items),
        counts={"rows_read": showings.read, "rows_merged": showings.merged},
        features=showings.features,
        max_gap_minutes=_GAP_MINUTES,
        notes=notes,
    )


def _low(frame: pl.DataFrame, name: str) -> float:
    return float(frame[name].min())  # type: ignore[arg-type]


def _high(frame: pl.DataFrame, name: str) -> float:
    return float(frame[name].max())  # type: ignore[arg-type]


def _given(path: Path | str | None, source: str) -> str:
    if path is None:
        raise ConfigError(
            f"source '{source}' needs a file: goalrank data import {source} FILE (option: path)"
        )
    return str(path)


def _name(path: str) -> str:
    """The data set's name: the last part of the path without endings."""
    return Path(path.rstrip("/")).name.split(".")[0] or path


def _mapped(
    aliases: Mapping[str, Sequence[str]], columns: Mapping[str, str], source: str
) -> dict[str, Sequence[str]]:
    unknown = [name for name in columns if name not in aliases]
    if unknown:
        raise ConfigError(
            f"columns maps '{unknown[0]}', which source '{source}' does not know; "
            f"our names: {', '.join(aliases)}"
        )
    return {ours: (columns[ours],) if ours in columns else names for ours, names in aliases.items()}


def _check_target(target: str, kinds: tuple[str, ...]) -> None:
    if target not in kinds:
        raise ConfigError(
            f"target '{target}' is no feedback type; feedback types: {', '.join(kinds)}; "
            f"option: target"
        )


def read_items(folder: Path) -> pl.DataFrame | None:
    """``items.parquet`` in the folder, if there is one."""
    path = first_existing(folder, ("items.parquet",))
    return None if path is None else read_any(path)


def _side(folder: Location | None, name: str) -> pl.DataFrame | None:
    """A side table beside the log."""
    if folder is None or not folder.child(name).exists():
        return None
    return folder.child(name).read(lambda file: pl.read_parquet(file.read()))


def _match_ids(side: pl.DataFrame | None, key: str, events: pl.DataFrame) -> pl.DataFrame | None:
    """The side table with ids of the log's type."""
    if side is None:
        return None
    if key not in side.columns:
        raise SchemaError(f"side table without column {key}; present: {', '.join(side.columns)}")
    ids = as_ids(side[key], where=f"side table of {key}")
    if ids.dtype != events.schema[key]:
        raise SchemaError(
            f"{key} is {events.schema[key]} in the log ({events[key].head(3).to_list()}) and "
            f"{ids.dtype} in the side table ({ids.head(3).to_list()}); remedy: write ids the same "
            f"way in both"
        )
    return side.with_columns(ids).unique(key, keep="first", maintain_order=True)


def _categories(items: pl.DataFrame | None) -> tuple[str, ...]:
    """Columns for affinity features: strings and lists of strings, but what is for display."""
    if items is None:
        return ()
    good = (pl.String, pl.List(pl.String))
    shown = ("title", "url", "item_id")
    return tuple(n for n, t in items.schema.items() if t in good and n not in shown)[:4]
