"""Columns of a log by their role: what is an id, a time, a position, and what is left over."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from goalrank.errors import ConfigError, SchemaError
from goalrank.logs.tabular.notes import ImportNotes

ALIASES: dict[str, tuple[str, ...]] = {
    "user_id": ("user_id", "user", "userid", "uid", "visitor_id", "visitorid", "customer_id"),
    "item_id": ("item_id", "item", "itemid", "iid", "items", "item_ids", "product_id", "movie_id"),
    "time": ("time", "timestamp", "ts", "datetime", "event_time", "date"),
    "request_id": ("request_id", "request", "impression_id", "list_id", "query_session_id"),
    "session_id": ("session_id", "session"),
    "position": ("position", "rank", "slot"),
    "shown": ("shown", "is_shown", "displayed"),
    "propensity": ("propensity", "propensity_score", "pscore"),
    "slot_propensity": ("slot_propensity",),
    "candidate_score": ("candidate_score", "retriever_score"),
    "policy": ("policy",),
    "experiment": ("experiment",),
    "event": ("event", "event_type", "action"),
    "value": ("event_value",),
    "order": ("order",),
}
"""Role → names that a column of that role often has, best first; compared without case."""


@dataclass(frozen=True)
class Roles:
    """Which column of a file plays which role.

    Attributes:
        of: role → the file's column.
        rest: columns without a role, in the file's order.
    """

    of: dict[str, str]
    rest: tuple[str, ...]

    def __contains__(self, role: str) -> bool:
        return role in self.of


def find_roles(
    columns: Sequence[str],
    given: Mapping[str, str],
    notes: ImportNotes,
    *,
    where: str,
    kinds: Sequence[str] = (),
) -> Roles:
    """Columns by role: those that are given, then those with a usual name.

    Args:
        columns: of the file.
        given: role → column, from option `columns`; names that are no role are feedback types.
        notes: get what was guessed.
        where: the file, named in errors.
        kinds: columns named as feedback; they have no other role.

    Raises:
        SchemaError: a given column is absent; the nearest is named.
    """
    for role, name in given.items():
        if name not in columns:
            raise SchemaError(
                f"{where}: columns maps {role} to '{name}', which is absent"
                f"{_nearest(name, columns)}; present: {', '.join(columns[:30])}; option: columns"
            )
    of = {role: name for role, name in given.items() if role in ALIASES}
    free = [c for c in columns if c not in given.values() and c not in kinds]
    lower = {name.lower(): name for name in reversed(free)}
    for role, names in ALIASES.items():
        found = next((lower[name] for name in names if name in lower), None)
        if role in of or found is None or found in of.values():
            continue
        of[role] = found
        if found != role:
            notes.guess(f"column of {role}", f"'{found}'", f"columns {role}=NAME")
    return Roles(of, tuple(c for c in columns if c not in of.values()))


def need(roles: Roles, role: str, columns: Sequence[str], *, where: str, why: str) -> str:
    """The column of a role that cannot be done without.

    Raises:
        SchemaError: there is none; the nearest names are suggested.
    """
    if role in roles:
        return roles.of[role]
    raise SchemaError(
        f"{where}: no column for {role} ({why}){_nearest(role, columns)}; present: "
        f"{', '.join(columns[:30])}; remedy: --columns {role}=NAME (option: columns)"
    )


def _nearest(name: str, columns: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, columns, n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def find_kinds(
    frame: pl.DataFrame,
    roles: Roles,
    given: Mapping[str, str],
    kinds: Sequence[str],
    features: Sequence[str],
    notes: ImportNotes,
    *,
    where: str,
) -> dict[str, str]:
    """Feedback types and their columns: those that are named, or the only column of 0 and 1.

    Args:
        frame: the file.
        roles: which column plays which role.
        given: option `columns`; a name that is no role maps a feedback type.
        kinds: option `kinds`.
        features: option `candidate_features`; they are no feedback.
        notes: get what was guessed.
        where: the file, named in errors.

    Returns:
        feedback type → column.

    Raises:
        ConfigError: nothing is named and no single column of 0 and 1 exists; candidates are
            listed.
        SchemaError: a named column is absent.
    """
    mapped = {kind: name for kind, name in given.items() if kind not in ALIASES}
    wanted = {kind: mapped.get(kind, kind) for kind in (*kinds, *mapped)}
    if wanted:
        for kind, name in wanted.items():
            if name not in frame.columns:
                raise SchemaError(
                    f"{where}: no column '{name}' for feedback type {kind}"
                    f"{_nearest(name, frame.columns)}; present: {', '.join(frame.columns[:30])}; "
                    f"options: kinds, columns"
                )
        return wanted
    left = [name for name in roles.rest if name not in features]
    binary = [name for name in left if _is_binary(frame[name])]
    if len(binary) == 1:
        notes.guess("feedback type", f"'{binary[0]}', the only column of 0 and 1", "kinds")
        return {binary[0]: binary[0]}
    numbers = [n for n in left if n in binary or _is_number(frame[n])]
    listed = ", ".join(f"{n}{' (0/1)' if n in binary else ''}" for n in numbers[:20])
    raise ConfigError(
        f"{where}: {'several columns' if binary else 'no column'} of 0 and 1 could be feedback; "
        f"candidates: {listed or 'none'}; remedy: name the feedback, for instance --kinds "
        f"{(binary or numbers or ['click'])[0]} (option: kinds); numbers that were known before "
        f"the list was shown are features: --candidate-features A,B"
    )


def _is_number(column: pl.Series) -> bool:
    inner = column.dtype.inner if isinstance(column.dtype, pl.List) else column.dtype
    return inner.is_numeric() or inner == pl.Boolean


def _is_binary(column: pl.Series) -> bool:
    if not _is_number(column):
        return False
    flat = column.explode() if isinstance(column.dtype, pl.List) else column
    values = flat.drop_nulls().cast(pl.Float64)
    return bool(values.is_in([0.0, 1.0]).all()) and len(values) > 0
