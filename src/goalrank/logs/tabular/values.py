"""The values of showings: each column of the caller's as one of ours, checked."""

from __future__ import annotations

import polars as pl

from goalrank.errors import SchemaError
from goalrank.logs.options import ImportOptions
from goalrank.logs.tabular.columns import Roles, need
from goalrank.logs.tabular.ids import as_ids
from goalrank.logs.tabular.notes import ImportNotes
from goalrank.wording import counted


def request_ids(
    frame: pl.DataFrame, roles: Roles, options: ImportOptions, where: str
) -> pl.Series | None:
    """Request ids as text: a row each, as written, or of found lists; None where nothing says."""
    if options.request_scope == "row":
        rows = pl.int_range(frame.height, dtype=pl.Int64, eager=True)
        return rows.cast(pl.String).alias("request_id")
    if "request_id" in roles:
        return as_ids(frame[roles.of["request_id"]].alias("request_id"), where=where).cast(
            pl.String
        )
    return frame["_list"].cast(pl.String).alias("request_id") if "_list" in frame.columns else None


def user_ids(
    frame: pl.DataFrame, roles: Roles, request: pl.Series | None, notes: ImportNotes, where: str
) -> pl.Series:
    """User ids; without any, one anonymous user per session or per request, which is said.

    Raises:
        SchemaError: neither users, sessions nor requests.
    """
    if "user_id" in roles:
        return as_ids(frame[roles.of["user_id"]].alias("user_id"), where=where)
    if "session_id" in roles:
        notes.guess(
            "users", f"anonymous, one per '{roles.of['session_id']}'", "columns user_id=NAME"
        )
        return as_ids(frame[roles.of["session_id"]].alias("user_id"), where=where)
    if request is not None:
        notes.guess("users", "anonymous, one per request", "columns user_id=NAME")
        return request.alias("user_id")
    return frame[
        need(
            roles,
            "user_id",
            frame.columns,
            where=where,
            why="who was asked; or a session_id; where each row is a request of its own: "
            "--set request_scope=row",
        )
    ]


def unique_request_ids(
    request: pl.Series, user: pl.Series, options: ImportOptions, where: str
) -> pl.Series:
    """Request ids that belong to one user each."""
    frame = pl.DataFrame([request, user])
    if options.request_scope == "user":
        return frame.select(
            pl.format("{}/{}", _escaped("user_id"), "request_id").alias("request_id")
        )["request_id"]
    shared = (
        frame.unique(maintain_order=True)
        .group_by("request_id", maintain_order=True)
        .len()
        .filter(pl.col("len") > 1)
    )
    if shared.height:
        name, users = shared.row(0)
        raise SchemaError(
            f"{where}: request_id {name!r} belongs to {users} users ({counted(shared.height, 'such id')}); "
            f"remedy: where ids count anew for each user, --set request_scope=user makes them "
            f"USER/REQUEST; option: request_scope"
        )
    return request


def _escaped(name: str) -> pl.Expr:
    """An id as text in which "/" cannot be taken for the sign between two ids."""
    return pl.col(name).cast(pl.String).str.replace_all("%", "%25").str.replace_all("/", "%2F")


def shown_flags(
    frame: pl.DataFrame, roles: Roles, position: pl.Series | None, notes: ImportNotes, where: str
) -> pl.Series:
    """Whether each candidate was shown: as said, else where it has a position."""
    if "shown" in roles:
        values = numbers(frame[roles.of["shown"]], where)
        return (values.fill_null(0.0) > 0).alias("shown")
    if position is not None and position.null_count():
        notes.guess("shown", "candidates with a position", "columns shown=NAME")
        return position.is_not_null().alias("shown")
    return pl.Series("shown", [True]).new_from_index(0, frame.height)


def numbers(column: pl.Series, where: str) -> pl.Series:
    """Float64, nulls kept.

    Raises:
        SchemaError: text that is no number, or a number that is not finite.
    """
    if column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.String, pl.Null):
        out = column.cast(pl.Float64, strict=False)
        bad = (out.is_null() & column.is_not_null()) | out.is_nan() | out.is_infinite()
        if not bad.fill_null(False).any():
            return out
        row = int(bad.fill_null(False).arg_max() or 0)
        raise SchemaError(
            f"{where}: {column.name} = {column[row]!r} in row {row + 1} is not a finite number"
        )
    raise SchemaError(f"{where}: {column.name} has type {column.dtype}; expected numbers")


def feature(column: pl.Series, notes: ImportNotes, where: str) -> pl.Series:
    """A feature as Float32. Empty values stay; the import fills them, which is said here.

    Raises:
        SchemaError: no value at all.
    """
    out = numbers(column, where)
    if out.null_count() == len(out):
        raise SchemaError(f"{where}: {column.name} has no value; option: candidate_features")
    note_empty(out, notes)
    return out.cast(pl.Float32).alias(column.name)


def note_empty(column: pl.Series, notes: ImportNotes) -> None:
    """Say that the mean of the training requests will stand for empty values."""
    if empty := column.null_count():
        found = f"its mean over the training requests, in {counted(empty, 'row')}"
        notes.guess(f"empty '{column.name}'", found, "columns")


def feedback(
    column: pl.Series, kind: str, shown: pl.Series, notes: ImportNotes, where: str
) -> pl.Series:
    """Feedback as Float32; none is 0, which is said."""
    out = numbers(column, where)
    empty = int((out.is_null() & shown).sum())
    if empty:
        notes.guess(f"empty '{kind}'", f"0 in {counted(empty, 'shown row')}", "kinds")
    return out.fill_null(0.0).cast(pl.Float32).alias(kind)


def with_propensities(rows: pl.DataFrame, notes: ImportNotes, where: str) -> pl.DataFrame:
    """Propensities that differ within a request are those of its slots.

    Raises:
        SchemaError: a probability that is not above 0 and at most 1.
    """
    for name in ("propensity", "slot_propensity"):
        if name in rows.columns:
            bad = rows["shown"] & ~rows[name].is_between(0.0, 1.0, closed="right").fill_null(False)
            if bad.any():
                row = int(bad.arg_max() or 0)
                raise SchemaError(
                    f"{where}: {name} = {rows[name][row]!r} in row {row + 1} is no probability above "
                    f"0 and at most 1 ({int(bad.sum()):,} shown rows); remedy: mend these rows, or "
                    f"rename the column so that it is not used"
                )
    if "propensity" not in rows.columns or "request_id" not in rows.columns:
        return rows
    shown = rows.filter("shown")
    differs = shown.group_by("request_id").agg(pl.col("propensity").n_unique())["propensity"].max()
    if "slot_propensity" in rows.columns or (differs or 1) == 1:
        return rows
    notes.guess(
        "propensity", "differs within a request: one per slot", "columns slot_propensity=NAME"
    )
    return rows.rename({"propensity": "slot_propensity"})
