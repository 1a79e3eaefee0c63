"""The log of a data set as it was read, kept beside the tables so that rows can be appended.

Parquet and a JSON manifest with the files' hashes; rows keep the order in which they were read.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from goalrank.errors import ConfigError, DataError, SchemaError
from goalrank.logs.options import ImportOptions
from goalrank.logs.readers.raw_log import RawLog
from goalrank.logs.tabular.notes import ImportNotes
from goalrank.storage import write_json
from goalrank.wording import named_values

__all__ = ["FOLDER", "SavedLog", "joined_logs", "load_log", "save_log"]

FOLDER = "log"
_MANIFEST = "manifest.json"
_FORMAT = 1
_PLAIN = ("dataset", "shape", "kinds", "target", "strength", "strength_parts", "rate_kinds", "categories", "counts",
          "facts", "warnings", "features", "max_gap_minutes", "copies")  # fmt: skip
_TUPLES = ("kinds", "strength_parts", "rate_kinds", "categories", "facts", "warnings", "features")
_TABLES = ("events", "items", "users")


@dataclass(frozen=True)
class SavedLog:
    """A log and how it was read.

    Attributes:
        source: name of the reader.
        options: settings of the import.
        raw: the log.
    """

    source: str
    options: ImportOptions
    raw: RawLog


def save_log(saved: SavedLog, folder: Path) -> None:
    """Write a log, or why none can be appended to it.

    Args:
        saved: the log.
        folder: to write to; it is made.
    """
    folder.mkdir(parents=True)
    raw = saved.raw
    if raw.shape != "interactions":
        write_json(folder / _MANIFEST, {"format": _FORMAT, "refused": _REFUSED})
        return
    hashes = {}
    for name in _TABLES:
        table = getattr(raw, name)
        if table is not None:
            table.write_parquet(folder / f"{name}.parquet")
            hashes[name] = _digest(folder / f"{name}.parquet")
    manifest = {
        "format": _FORMAT,
        "source": saved.source,
        "options": saved.options.model_dump(mode="json", exclude_none=True),
        "log": {name: getattr(raw, name) for name in _PLAIN},
        "notes": raw.notes.to_dict(),
        "sha256": hashes,
    }
    write_json(folder / _MANIFEST, manifest)


_REFUSED = (
    "answers of a log of exposures are merged over all its rows, so rows cannot be appended; "
    "remedy: import the whole log again"
)


def load_log(dataset: Path) -> SavedLog:
    """Read the log of a data set.

    Raises:
        DataError: the data set has none, or it is damaged.
        ConfigError: nothing can be appended to it.
    """
    folder = dataset / FOLDER
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(
            f"'{dataset}' keeps no log to append to; remedy: import it by goalrank data import, "
            f"which keeps one"
        ) from None
    if manifest["format"] != _FORMAT:
        raise DataError(
            f"'{folder}' has format {manifest['format']}, this version reads {_FORMAT}; remedy: "
            f"import the whole log again"
        )
    if "refused" in manifest:
        raise ConfigError(f"'{dataset}': {manifest['refused']}")
    for name, digest in manifest["sha256"].items():
        if _digest(folder / f"{name}.parquet") != digest:
            raise DataError(
                f"'{folder / name}.parquet' is damaged: its hash is another; remedy: import the "
                f"whole log again"
            )
    plain: dict[str, Any] = {n: tuple(v) if n in _TUPLES else v for n, v in manifest["log"].items()}
    plain |= {
        name: pl.read_parquet(folder / f"{name}.parquet", glob=False) for name in manifest["sha256"]
    }
    raw = RawLog(**plain, notes=ImportNotes.from_dict(manifest["notes"]))
    return SavedLog(manifest["source"], ImportOptions.from_mapping(manifest["options"]), raw)


def joined_logs(old: RawLog, new: RawLog, where: str) -> RawLog:
    """One log of two, as if their files had been read together.

    Side tables beside the new rows replace the old ones.

    Args:
        old: the log so far.
        new: later rows.
        where: file of the new rows, named in errors.

    Raises:
        DataError: rows that are not later than all rows so far.
        SchemaError: other columns or types of ids.
    """
    if new.events.schema != old.events.schema:
        raise SchemaError(
            f"{where}: its columns are read as {named_values(new.events.schema)}, those of the data set as "
            f"{named_values(old.events.schema)}; remedy: the same columns and kinds of ids, or import the "
            f"whole log again"
        )
    end = old.events["time"].max()
    late = new.events["time"] <= end
    if late.any():
        raise DataError(
            f"{where}: {int(late.sum()):,} of {len(late):,} rows are not later than "
            f"{_moment(end)}, the last moment of the data set; remedy: give later rows only, or "
            f"import the whole log again"
        )
    counts = {name: old.counts.get(name, 0) + new.counts.get(name, 0)
              for name in {**old.counts, **new.counts}}  # fmt: skip
    return replace(
        old,
        events=pl.concat([old.events, new.events]),
        items=old.items if new.items is None else new.items,
        users=old.users if new.users is None else new.users,
        categories=old.categories if new.items is None else new.categories,
        counts=counts,
        notes=old.notes.joined(new.notes),
    )


def _moment(micros: Any) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).isoformat(sep=" ")


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "missing"
