"""Preview of a log: what was found in a file, three requests as imported, and the command to copy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from goalrank.errors import ConfigError, SchemaError
from goalrank.logs.options import ImportOptions
from goalrank.logs.tabular.columns import find_roles
from goalrank.logs.tabular.files import find_files, read_files
from goalrank.logs.tabular.lists import with_lists
from goalrank.logs.tabular.metarank import is_metarank
from goalrank.logs.tabular.notes import ImportNotes
from goalrank.logs.tabular.showings import Showings, read_showings, table_rules

__all__ = ["Preview", "preview_log"]

_SHOWN = 3
_ROWS = 12


@dataclass(frozen=True)
class Preview:
    """What a look at a file found.

    Attributes:
        source: exposures or interactions: what `goalrank data import` should be told.
        files: number of files, their format.
        facts: name → value, in the order in which they are printed.
        click_rate: position → mean of the target among shown rows; empty without positions.
        requests: the first requests, as (request id, user, time, rows); a row is item, position,
            feedback.
        notes: what was guessed, merged and left out.
        problem: what stands in the way of an import; None where nothing does.
        command: the import command to copy.
    """

    source: str
    files: tuple[int, str]
    facts: dict[str, str]
    click_rate: dict[int, float]
    requests: list[dict[str, Any]]
    notes: ImportNotes
    problem: str | None
    command: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "source": self.source,
            "files": {"count": self.files[0], "format": self.files[1]},
            "facts": self.facts,
            "click_rate": self.click_rate,
            "requests": self.requests,
            **self.notes.to_dict(),
            "problem": self.problem,
            "command": self.command,
        }


def preview_log(
    path: str | Path, options: ImportOptions | Mapping[str, Any] | None = None
) -> Preview:
    """Look at a log without importing it.

    Args:
        path: file, folder, glob or address.
        options: as for `import_log`; what is given is not guessed.

    Raises:
        DataError: nothing is there, or it cannot be read at all.
    """
    if not isinstance(options, ImportOptions):
        options = ImportOptions.from_mapping(options or {})
    notes = ImportNotes()
    found = find_files(path, table_rules(options))
    frame = read_files(found, table_rules(options), notes)
    raw = {"rows": f"{frame.height:,}", "columns": ", ".join(_typed_names(frame))}
    try:
        source, showings = _understood(path, frame, options, notes)
    except (ConfigError, SchemaError) as error:
        return Preview(
            "exposures", (len(found.files), found.format), raw, {}, [], notes, str(error),
            _command(path, "exposures", options, ()),
        )  # fmt: skip
    if showings is None:
        return Preview(
            source, (len(found.files), found.format), raw, {}, [], notes, None,
            _command(path, source, options, ()),
        )  # fmt: skip
    rows = with_lists(showings.rows, options, notes)
    return Preview(
        source,
        (len(found.files), found.format),
        {**raw, **_facts(showings, rows)},
        _rates(showings, rows, options.target),
        _first(showings, rows),
        notes,
        None,
        _command(path, source, options, showings.kinds),
    )


def _understood(
    path: str | Path, frame: pl.DataFrame, options: ImportOptions, notes: ImportNotes
) -> tuple[str, Showings | None]:
    """Which source reads the file, and its showings where it is a log of lists."""
    roles = find_roles(frame.columns, options.columns, ImportNotes(), where=str(path))
    rated = "rating" in frame.columns and not options.kinds
    lists = {"request_id", "position", "shown", "event"} & set(roles.of)
    bare = not roles.rest and not options.kinds
    if (rated or bare) and not lists and not is_metarank(frame):
        what = "ratings" if rated else "users, items and times"
        notes.guess("source", f"interactions: {what} without lists", "source")
        return "interactions", None
    return "exposures", read_showings(path, options, notes)


def _typed_names(frame: pl.DataFrame) -> list[str]:
    shown = [f"{name} ({dtype})" for name, dtype in list(frame.schema.items())[:_ROWS]]
    more = len(frame.columns) - len(shown)
    return [*shown, f"and {more} more"] if more > 0 else shown


def _facts(showings: Showings, rows: pl.DataFrame) -> dict[str, str]:
    times = rows["time"].cast(pl.Datetime("us", "UTC"))
    facts = {
        "layout": showings.layout,
        "users": f"{rows['user_id'].n_unique():,}",
        "items": f"{rows['item_id'].n_unique():,}",
        "time range": f"{times.min()!s} to {times.max()!s}",
        "feedback": ", ".join(
            f"{kind} (mean {float(rows.filter('shown')[kind].mean() or 0):.4f})"  # type: ignore[arg-type]
            for kind in showings.kinds
        ),
        "shown": f"{float(rows['shown'].mean() or 0):.1%} of the candidates",  # type: ignore[arg-type]
    }
    if showings.features:
        facts["candidate features"] = ", ".join(showings.features)
    if "request_id" in rows.columns:
        sizes = rows.group_by("request_id").len()["len"]
        facts["requests"] = f"{len(sizes):,}"
        facts["candidates per request"] = (
            f"{sizes.min()!s} to {sizes.max()!s}, median {sizes.median()!s}"
        )
    again = 1 - rows.select("user_id", "item_id").n_unique() / max(rows.height, 1)
    facts["repeats"] = f"{again:.1%} of the rows show a user an item again"
    return facts


def _rates(showings: Showings, rows: pl.DataFrame, target: str | None) -> dict[int, float]:
    if "position" not in rows.columns:
        return {}
    kind = target or showings.kinds[0]
    by = rows.filter("shown").group_by("position").agg(pl.col(kind).mean()).sort("position")
    return {int(p): round(float(v), 5) for p, v in by.head(20).iter_rows() if p is not None}


def _first(showings: Showings, rows: pl.DataFrame) -> list[dict[str, Any]]:
    if "request_id" not in rows.columns:
        return []
    names = rows["request_id"].unique(maintain_order=True).head(_SHOWN)
    out = []
    for name in names:
        part = rows.filter(pl.col("request_id") == name)
        if "position" in part.columns:
            part = part.sort("position", nulls_last=True)
        columns = [c for c in ("item_id", "position", "shown") if c in part.columns]
        out.append(
            {
                "request_id": str(name),
                "user_id": part["user_id"][0],
                "time": str(part["time"].cast(pl.Datetime("us", "UTC"))[0]),
                "candidates": part.height,
                "rows": part.select(*columns, *showings.kinds).head(_ROWS).to_dicts(),
            }
        )
    return out


def _command(path: str | Path, source: str, options: ImportOptions, kinds: tuple[str, ...]) -> str:
    """The import command with all that was given, and the feedback types that were found."""
    words = ["goalrank", "data", "import", source, str(path)]
    given = options.model_dump(exclude_defaults=True, mode="json")
    for name, column in given.pop("columns", {}).items():
        words += ["--columns", f"{name}={column}"]
    named = given.pop("kinds", None) or kinds
    if named and source == "exposures":
        words += ["--kinds", ",".join(named)]
    for name in ("target", "layout", "timezone", "feedback"):
        if name in given:
            words += [f"--{name}", str(given.pop(name))]
    for name in ("candidate_features", "text"):
        if name in given:
            words += [f"--{name.replace('_', '-')}", ",".join(given.pop(name))]
    for name, value in given.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        words += ["--set", f"{name}={text}"]
    return shlex.join([*words, "--out", "data/mine"])
