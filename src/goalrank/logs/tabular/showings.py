"""A log of lists, whatever its layout, as showings: one row per candidate of each request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from goalrank.errors import ConfigError, SchemaError
from goalrank.logs.options import ImportOptions
from goalrank.logs.tabular.columns import Roles, find_kinds, find_roles, need
from goalrank.logs.tabular.files import TableFiles, TableRules, find_files, read_files
from goalrank.logs.tabular.ids import as_ids
from goalrank.logs.tabular.layouts import (
    EventRules,
    attribute,
    check_kind_names,
    find_layout,
    rows_from_events,
    rows_from_lists,
    with_event_names,
    with_parsed_lists,
)
from goalrank.logs.tabular.metarank import IMPRESSION, is_metarank, standard_events
from goalrank.logs.tabular.notes import ImportNotes
from goalrank.logs.tabular.times import TimeRules, as_micros
from goalrank.logs.tabular.values import (
    feature,
    feedback,
    note_empty,
    numbers,
    request_ids,
    shown_flags,
    unique_request_ids,
    user_ids,
    with_propensities,
)

SECOND = 1_000_000
PER_REQUEST = ("propensity", "policy", "experiment")


@dataclass(frozen=True)
class Showings:
    """Candidates of requests, one row each.

    Attributes:
        rows: user_id, item_id, time (Int64 microseconds, UTC), shown (Boolean), one Float32
            column per feedback type and per feature; where known also request_id (String),
            position (Float64), candidate_score (Float32), propensity and slot_propensity
            (Float64), policy and experiment (String).
        kinds: feedback types.
        features: names of the caller's own candidate features.
        layout: rows, lists or events.
        read: rows of the files.
        merged: rows that were combined with another of the same request and item.
        files: what was read.
    """

    rows: pl.DataFrame
    kinds: tuple[str, ...]
    features: tuple[str, ...]
    layout: str
    read: int
    merged: int
    files: TableFiles


def table_rules(options: ImportOptions) -> TableRules:
    """How files are read, from an import's options."""
    return TableRules(
        options.format, options.separator, options.decimal, options.encoding, options.header
    )


def time_rules(options: ImportOptions) -> TimeRules:
    """How times are read, from an import's options."""
    return TimeRules(options.time_unit, options.time_format, options.timezone)


def read_showings(source: str | Path, options: ImportOptions, notes: ImportNotes) -> Showings:
    """Read a log of lists.

    Raises:
        DataError: files that are missing, damaged or empty.
        SchemaError: columns or values that break a rule; ConfigError: what must be told is not.
    """
    files = find_files(source, table_rules(options))
    frame = read_files(files, table_rules(options), notes)
    where, read = files.name, frame.height
    if is_metarank(frame):
        notes.guess("layout", "events of rankings and interactions (Metarank)", "layout")
        frame = standard_events(frame, where)
        options = options.model_copy(update={"layout": "events", "impression": IMPRESSION})
    roles = find_roles(frame.columns, options.columns, notes, where=where, kinds=options.kinds)
    need(roles, "item_id", frame.columns, where=where, why="what was shown")
    layout = find_layout(frame, roles, options.layout, notes)
    if layout == "lists":
        named = (*options.columns.values(), *options.kinds, *options.candidate_features)
        frame = with_parsed_lists(frame, roles, named, where)
    features = tuple(options.candidate_features)
    _check_features(frame, features, roles, where)
    if layout == "events" or options.feedback is not None:
        frame = _with_times(frame, roles, options, notes, where)
        if options.feedback is not None:
            frame, kinds = _with_feedback(frame, roles, options, notes, where)
        else:
            frame, kinds = rows_from_events(frame, roles, _event_rules(options), notes, where=where)
            kinds = _wanted_kinds(kinds, options)
        by_kind = {kind: kind for kind in kinds}
    else:
        by_kind = find_kinds(
            frame, roles, options.columns, options.kinds, features, notes, where=where
        )
        if layout == "lists":
            frame = rows_from_lists(frame, roles, by_kind, features, notes, where=where)
            by_kind = {k: k if k in frame.columns else n for k, n in by_kind.items()}
        frame = _with_times(frame, roles, options, notes, where)
    rows = _normalised(frame, roles, by_kind, features, options, notes, where)
    if not rows["shown"].any():
        raise SchemaError(
            f"{where}: no candidate was shown; remedy: name the column that says so "
            f"(--columns shown=NAME), or positions"
        )
    one = _merged(rows, tuple(by_kind), notes)
    merged = rows.height - one.height
    if options.candidate_set == "all":
        one = _with_all_items(one, tuple(by_kind), features, where)
    return Showings(one, tuple(by_kind), features, layout, read, merged, files)


def _event_rules(options: ImportOptions) -> EventRules:
    return EventRules(options.impression, options.window_hours)


def _wanted_kinds(found: tuple[str, ...], options: ImportOptions) -> tuple[str, ...]:
    """The kinds that are named, in that order; all of them where none is."""
    missing = [kind for kind in options.kinds if kind not in found]
    if missing:
        raise ConfigError(
            f"kinds names '{missing[0]}', but the log's events are {', '.join(found) or 'none'}; "
            f"option: kinds"
        )
    return options.kinds or found


def _check_features(
    frame: pl.DataFrame, features: tuple[str, ...], roles: Roles, where: str
) -> None:
    for name in features:
        if name in roles.of.values() or name in roles.of:
            raise ConfigError(
                f"{where}: '{name}' is a column that goalrank uses itself; remedy: a copy of it "
                f"under another name; option: candidate_features"
            )
        if name not in frame.columns:
            raise SchemaError(
                f"{where}: no column '{name}'; present: {', '.join(frame.columns[:30])}; "
                f"option: candidate_features"
            )


def _with_times(
    frame: pl.DataFrame, roles: Roles, options: ImportOptions, notes: ImportNotes, where: str
) -> pl.DataFrame:
    """The frame with its times as microseconds; an order column stands in where there are none."""
    if "time" in roles:
        name = roles.of["time"]
        return frame.with_columns(
            as_micros(frame[name], time_rules(options), notes, where=where).alias(name)
        )
    if "order" not in roles:
        need(roles, "time", frame.columns, where=where, why="when it was shown; a log without "
             "times needs the order of its requests: --columns order=NAME")  # fmt: skip
    order = frame[roles.of["order"]]
    if not order.dtype.is_integer() or order.null_count():
        raise SchemaError(
            f"{where}: {order.name} has type {order.dtype} ({order.null_count():,} empty); an "
            f"order is a whole number per row (option: columns)"
        )
    roles.of["time"] = "_time"
    notes.guess("time", f"one second per step of '{order.name}', from 1970 on", "columns time=NAME")
    return frame.with_columns((order.cast(pl.Int64) * SECOND).alias("_time"))


def _with_feedback(
    shown: pl.DataFrame, roles: Roles, options: ImportOptions, notes: ImportNotes, where: str
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Showings with the answers of a second file."""
    files = find_files(str(options.feedback), table_rules(options))
    frame = read_files(files, table_rules(options), notes)
    own = find_roles(frame.columns, options.feedback_columns, notes, where=files.name)
    need(own, "item_id", frame.columns, where=files.name, why="what was answered")
    if "time" in own:
        frame = _with_times(frame, own, options, notes, files.name)
    elif "request_id" not in own:
        need(own, "time", frame.columns, where=files.name, why="or a request_id, to find the list")
    event = own.of.get("event")
    if event is None:
        name = options.kinds[0] if options.kinds else "click"
        if not options.kinds:
            notes.guess("feedback type", f"every row of {files.name} is a '{name}'", "kinds")
        event, frame = "_event", frame.with_columns(pl.lit(name).alias("_event"))
    names = {own.of[role]: roles.of[role] for role in own.of if role in roles}
    answers = frame.rename({a: b for a, b in names.items() if a != b})
    rules = _event_rules(options)
    if roles.of["time"] not in answers.columns:  # joined by request: no answer is too late
        rules = EventRules(rules.impression, float("inf"))
        answers = answers.with_columns(
            pl.lit(shown[roles.of["time"]].max()).alias(roles.of["time"])
        )
    answers = with_event_names(answers, event, notes, "answers")
    kinds = _wanted_kinds(tuple(sorted(answers[event].unique())), options)
    check_kind_names(kinds, shown.columns, files.name)
    for role in ("request_id", "user_id", "item_id"):
        if role in roles and roles.of[role] in answers.columns:
            name = roles.of[role]
            both = as_ids(shown[name], where=where), as_ids(answers[name], where=files.name)
            shown, answers = shown.with_columns(both[0]), answers.with_columns(both[1])
    rows = attribute(
        shown.with_row_index("_row"), answers, Roles({**roles.of, **_value(own)}, ()), kinds,
        event, rules, notes, where=where,
    )  # fmt: skip
    return rows.drop("_row"), kinds


def _value(own: Roles) -> dict[str, str]:
    return {"value": own.of["value"]} if "value" in own else {}


def _normalised(
    frame: pl.DataFrame,
    roles: Roles,
    kinds: dict[str, str],
    features: tuple[str, ...],
    options: ImportOptions,
    notes: ImportNotes,
    where: str,
) -> pl.DataFrame:
    """Our columns and types, every value checked."""
    item = as_ids(frame[roles.of["item_id"]].alias("item_id"), where=where)
    request = request_ids(frame, roles, options, where)
    user = user_ids(frame, roles, request, notes, where)
    rows = pl.DataFrame([user, item, frame[roles.of["time"]].cast(pl.Int64).alias("time")])
    if request is not None:
        rows = rows.with_columns(request_id=unique_request_ids(request, user, options, where))
        rows = rows.with_columns(pl.col("time").min().over("request_id"))
    position = None
    if "position" in roles or "position" in frame.columns:
        position = numbers(frame[roles.of.get("position", "position")], where).alias("position")
        rows = rows.with_columns(position)
    rows = rows.with_columns(shown=shown_flags(frame, roles, position, notes, where))
    for role in ("candidate_score", "propensity", "slot_propensity"):
        if role in roles:
            rows = rows.with_columns(numbers(frame[roles.of[role]], where).alias(role))
    if "candidate_score" in rows.columns:
        note_empty(rows["candidate_score"], notes)
    for role in ("policy", "experiment"):
        if role in roles:
            rows = rows.with_columns(frame[roles.of[role]].cast(pl.String).alias(role))
    for name in features:
        rows = rows.with_columns(feature(frame[name], notes, where))
    for kind, name in kinds.items():
        rows = rows.with_columns(feedback(frame[name], kind, rows["shown"], notes, where))
    return with_propensities(rows, notes, where)


def _merged(rows: pl.DataFrame, kinds: tuple[str, ...], notes: ImportNotes) -> pl.DataFrame:
    """One row per request and item: the largest feedback, the first place, shown if ever shown."""
    if "request_id" not in rows.columns:
        return rows
    keys = ["request_id", "item_id"]
    best = [pl.col(kind).max() for kind in kinds] + [pl.col("shown").any()]
    rest = [c for c in rows.columns if c not in (*keys, *kinds, "shown", "position")]
    first = [pl.col(c).drop_nulls().first() for c in rest]
    place = [pl.col("position").min()] if "position" in rows.columns else []
    one = rows.group_by(keys, maintain_order=True).agg(*best, *place, *first)
    notes.merge("rows of one showing (same request and item)", rows.height - one.height)
    return one.select(rows.columns)


def _with_all_items(
    rows: pl.DataFrame, kinds: tuple[str, ...], features: tuple[str, ...], where: str
) -> pl.DataFrame:
    """The rows, and one that was not shown for each item of the log that a request does not list.

    Raises:
        ConfigError: no request ids, or features, which such rows cannot have.
    """
    if features or "request_id" not in rows.columns:
        raise ConfigError(
            f"{where}: candidate_set=all needs request ids and no candidate features (they are "
            f"known for listed items only); remedy: --set request_scope=row, or leave "
            f"--candidate-features out; option: candidate_set"
        )
    per_request = ("request_id", "user_id", "time", *PER_REQUEST)
    requests = rows.select(c for c in per_request if c in rows.columns).unique(
        "request_id", keep="first", maintain_order=True
    )
    items = rows.select(pl.col("item_id").unique().sort())
    others = requests.join(items, how="cross").join(rows, on=["request_id", "item_id"], how="anti")
    fill = [pl.lit(False).alias("shown"), *(pl.lit(0.0, pl.Float32).alias(k) for k in kinds)]
    return pl.concat([rows, others.with_columns(fill)], how="diagonal").select(rows.columns)
