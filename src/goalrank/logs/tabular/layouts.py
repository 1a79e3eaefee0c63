"""Layouts of a log of lists: rows, lists or events, each brought to one row per candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from goalrank.errors import ConfigError, SchemaError
from goalrank.logs.tabular.columns import ALIASES, Roles
from goalrank.logs.tabular.notes import ImportNotes

LAYOUTS = ("rows", "lists", "events")
IMPRESSIONS = (
    "impression",
    "impressions",
    "view",
    "show",
    "shown",
    "exposure",
    "exposed",
    "display",
)
_PER_ROW = ("position", "shown", "propensity", "slot_propensity", "candidate_score")


@dataclass(frozen=True)
class EventRules:
    """How rows of events become lists.

    Attributes:
        impression: value of the event column that says that an item was shown; None finds it.
        window_hours: an answer counts for a showing up to so many hours before it.
    """

    impression: str | None = None
    window_hours: float = 24.0


def find_layout(frame: pl.DataFrame, roles: Roles, wanted: str | None, notes: ImportNotes) -> str:
    """The layout of a file: as given, or by its columns.

    Raises:
        ConfigError: an unknown layout.
    """
    if wanted is not None:
        if wanted not in LAYOUTS:
            raise ConfigError(
                f"layout '{wanted}' is unknown; known: {', '.join(LAYOUTS)}; option: layout"
            )
        return wanted
    items = roles.of.get("item_id")
    found = "rows"
    if items is not None and _holds_lists(frame[items]):
        found = "lists"
    elif "event" in roles and frame[roles.of["event"]].dtype == pl.String:
        found = "events"
    notes.guess("layout", found, "layout")
    return found


def _holds_lists(column: pl.Series) -> bool:
    if isinstance(column.dtype, pl.List | pl.Array):
        return True
    if column.dtype != pl.String:
        return False
    some = column.drop_nulls().head(100)
    return len(some) > 0 and bool(some.str.contains(r"^\s*\[.*\]\s*$").all())


def _as_lists(column: pl.Series, where: str) -> pl.Series:
    """A list column; JSON arrays in text are parsed."""
    if isinstance(column.dtype, pl.List):
        return column
    if isinstance(column.dtype, pl.Array):
        return column.cast(pl.List(column.dtype.inner))
    if column.dtype == pl.String:
        try:
            texts = column.str.json_decode(pl.List(pl.String))
        except pl.exceptions.PolarsError:
            row = int((~column.str.contains(r"^\s*\[.*\]\s*$")).fill_null(True).arg_max() or 0)
            raise SchemaError(
                f"{where}: {column.name} = {column[row]!r} in row {row + 1} is no JSON array of "
                f"numbers or of text; remedy: write ['a', 'b'] as [\"a\", \"b\"]"
            ) from None
        return _typed_lists(texts)
    raise SchemaError(f"{where}: {column.name} has type {column.dtype}; expected lists")


def _typed_lists(texts: pl.Series) -> pl.Series:
    """Lists of text as lists of numbers or truth values where nothing is lost."""
    flat = texts.explode(empty_as_null=False)
    present = flat.drop_nulls()
    low = present.str.to_lowercase()
    if len(present) and bool(low.is_in(["true", "false"]).all()):
        return texts.list.eval(pl.element().str.to_lowercase() == "true")
    for dtype in (pl.Int64, pl.Float64):
        cast = present.cast(dtype, strict=False)
        if cast.null_count():
            continue
        whole = dtype == pl.Int64
        if not whole and present.str.contains(r"^-?\d{19,}$").any():
            continue  # ids that a float would round
        if not whole or bool((cast.cast(pl.String) == present).all()):
            return texts.cast(pl.List(dtype))
    return texts


def with_parsed_lists(
    frame: pl.DataFrame, roles: Roles, named: Sequence[str], where: str
) -> pl.DataFrame:
    """The frame with JSON arrays in text as list columns.

    Args:
        frame: the file.
        roles: which column plays which role; roles that no list can play are left alone.
        named: columns that options name.
        where: the file, named in errors.

    Raises:
        SchemaError: a column that is used looks like arrays and is none. Another stays text.
    """
    lists = [roles.of[role] for role in ("item_id", *_PER_ROW) if role in roles]
    single = set(roles.of.values()) - set(lists)
    texts = [c for c in frame.get_columns() if c.dtype == pl.String and c.name not in single]
    return frame.with_columns(
        _as_lists(column, where) if column.name in (*lists, *named) else _lists_or_text(column)
        for column in texts
        if _holds_lists(column)
    )


def _lists_or_text(column: pl.Series) -> pl.Series:
    """A column that may not be used at all: lists where it holds JSON arrays, else as it is."""
    try:
        return _as_lists(column, "")
    except SchemaError:
        return column


def rows_from_lists(
    frame: pl.DataFrame,
    roles: Roles,
    kinds: Mapping[str, str],
    features: tuple[str, ...],
    notes: ImportNotes,
    *,
    where: str,
) -> pl.DataFrame:
    """One row per item of each list.

    Feedback is a list aligned with the items (0 and 1, or numbers), or a list of the ids that
    were answered, or one such id. Positions count from 0 in the order of the list unless given.

    Raises:
        SchemaError: lists of one row differ in length, or ids of answers that were not listed.
    """
    item = roles.of["item_id"]
    frame = frame.with_row_index("_list").with_columns(_as_lists(frame[item], where).alias(item))
    length = frame[item].list.len()
    aligned = [roles.of[r] for r in _PER_ROW if r in roles and _holds_lists(frame[roles.of[r]])]
    aligned += [name for name in features if _holds_lists(frame[name])]
    for name in aligned:
        frame = frame.with_columns(_as_lists(frame[name], where).alias(name))
    by_id: dict[str, str] = {}
    for kind, name in kinds.items():
        if _holds_lists(frame[name]):
            frame = frame.with_columns(_as_lists(frame[name], where).alias(name))
            if _flags(frame[name], length):
                aligned.append(name)
                continue
        by_id[kind] = name
        notes.guess(f"feedback '{kind}'", "the ids that were answered", "layout")
    _check_lengths(frame, item, aligned, where)
    answered = {kind: _answered(frame, item, name) for kind, name in by_id.items()}
    frame = frame.drop([n for n in by_id.values() if n != item], strict=False)
    columns = [item, *dict.fromkeys(n for n in aligned if n != item)]
    rows = frame.explode(columns, empty_as_null=False)
    if "position" not in roles:
        rows = rows.with_columns(position=pl.int_range(pl.len()).over("_list"))
    for kind, pairs in answered.items():
        _check_answers(pairs, rows, item, kind, where)
        rows = rows.join(
            pairs.with_columns(pl.lit(1.0).alias(kind)), on=["_list", item], how="left",
            maintain_order="left",
        ).with_columns(pl.col(kind).fill_null(0.0))  # fmt: skip
    return rows


def _flags(values: pl.Series, length: pl.Series) -> bool:
    inner = values.dtype.inner  # type: ignore[attr-defined]
    return bool((values.list.len() == length).all()) and (inner.is_numeric() or inner == pl.Boolean)


def _check_lengths(frame: pl.DataFrame, item: str, aligned: list[str], where: str) -> None:
    length = frame[item].list.len()
    for name in aligned:
        wrong = (frame[name].list.len() != length).fill_null(True)
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            raise SchemaError(
                f"{where}: row {row + 1} has {length[row]} items and {frame[name].list.len()[row]} "
                f"values of {name}; remedy: one value per item in each list"
            )


def _worth(answers: pl.DataFrame, roles: Roles, where: str) -> pl.Series:
    """Value of each answer; 1 where it has none.

    Raises:
        SchemaError: a value that is no number.
    """
    if "value" not in roles:
        return pl.Series("_worth", [1.0]).new_from_index(0, answers.height)
    column = answers[roles.of["value"]]
    values = column.cast(pl.Float64, strict=False)
    bad = values.is_null() & column.is_not_null()
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise SchemaError(
            f"{where}: {column.name} = {column[row]!r} is no number; remedy: mend these values, or "
            f"name another column: --columns value=NAME"
        )
    return values.fill_null(1.0).alias("_worth")


def _answered(frame: pl.DataFrame, item: str, name: str) -> pl.DataFrame:
    """(_list, item) of each answer."""
    inner = frame.schema[item].inner  # type: ignore[attr-defined]
    pairs = frame.select("_list", pl.col(name).alias(item))
    if isinstance(pairs.schema[item], pl.List):
        pairs = pairs.explode(item, empty_as_null=False)
    pairs = pairs.drop_nulls()
    found = pairs[item].cast(inner, strict=False)
    if found.null_count():
        row = int(found.is_null().arg_max() or 0)
        raise SchemaError(
            f"answers of {name} hold {pairs[item][row]!r}, but the listed ids are {inner}; remedy: "
            f"write ids the same way in both, and leave the value empty where nothing was answered"
        )
    return pairs.with_columns(found).unique(maintain_order=True)


def _check_answers(
    pairs: pl.DataFrame, rows: pl.DataFrame, item: str, kind: str, where: str
) -> None:
    lost = pairs.join(rows.select("_list", item), on=["_list", item], how="anti")
    if lost.height:
        first = lost.row(0)
        raise SchemaError(
            f"{where}: row {first[0] + 1} answers item {first[1]!r} in {kind}, which is not in its "
            f"list ({lost.height:,} in all); remedy: list what was shown, or leave these answers out"
        )


def rows_from_events(
    frame: pl.DataFrame, roles: Roles, rules: EventRules, notes: ImportNotes, *, where: str
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """One row per showing, with a column of 0 and 1 (or the event's value) per kind of answer.

    Answers find their showing by request and item where events carry the request, else by user
    and item: the latest showing at most `window_hours` before the answer.

    Returns:
        The rows, and the kinds of answers.

    Raises:
        SchemaError: no row says that something was shown.
        ConfigError: a window that is not above 0.
    """
    event = roles.of["event"]
    frame = with_event_names(frame, event, notes, "rows", "columns")
    shown_as = (rules.impression or _impression(frame[event], where)).lower()
    if rules.impression is None:
        notes.guess("event that shows an item", f"'{shown_as}'", "impression")
    frame = frame.with_row_index("_row")
    shown = frame.filter(pl.col(event) == shown_as)
    answers = frame.filter(pl.col(event) != shown_as)
    if shown.height == 0:
        raise SchemaError(f"{where}: no row has {event} = '{shown_as}'; option: impression")
    kinds = tuple(sorted(answers[event].unique()))
    check_kind_names(kinds, frame.columns, where)
    rows = attribute(shown, answers, roles, kinds, event, rules, notes, where=where)
    return rows.drop("_row", event, strict=False), kinds


def with_event_names(
    frame: pl.DataFrame, event: str, notes: ImportNotes, what: str, option: str = ""
) -> pl.DataFrame:
    """The rows that name an event, with the names in lower case.

    Args:
        frame: rows of events.
        event: column of their names.
        notes: get the rows without a name, which are left out.
        what: the rows are, in that note.
        option: that decides which column it is.
    """
    empty = frame[event].null_count()
    notes.leave_out("rows", empty, frame.height, f"{what} without a value of '{event}'", option)
    named = frame.filter(pl.col(event).is_not_null())
    return named.with_columns(pl.col(event).cast(pl.String).str.to_lowercase())


def check_kind_names(kinds: tuple[str, ...], columns: list[str], where: str) -> None:
    """Refuse feedback types that are called like a column.

    Args:
        kinds: feedback types.
        columns: of the log, beside those of goalrank.
        where: the file, named in errors.

    Raises:
        SchemaError: such a name.
    """
    taken = sorted(set(kinds) & ({*ALIASES, *columns} - {"event"}))
    if taken:
        raise SchemaError(
            f"{where}: the event '{taken[0]}' is called like a column; remedy: rename the event in "
            f"the log, or leave it out by --kinds"
        )


def _impression(names: pl.Series, where: str) -> str:
    present = set(names.unique())
    found = [name for name in IMPRESSIONS if name in present]
    if len(found) == 1:
        return found[0]
    raise SchemaError(
        f"{where}: events {', '.join(sorted(present)[:20])}: which of them says that an item was "
        f"shown? remedy: --set impression=NAME (option: impression)"
    )


def attribute(
    shown: pl.DataFrame,
    answers: pl.DataFrame,
    roles: Roles,
    kinds: tuple[str, ...],
    event: str,
    rules: EventRules,
    notes: ImportNotes,
    *,
    where: str,
) -> pl.DataFrame:
    """Showings with the answers that belong to them.

    Args:
        shown: one row per showing, with a column `_row`; times are microseconds.
        answers: one row per answer.
        roles: which column plays which role, in both tables.
        kinds: names of answers; each becomes a column of `shown`.
        event: column of `answers` that names the kind.
        rules: how long after a showing an answer counts.
        notes: get what was left out.
        where: the file, named in errors.

    Raises:
        ConfigError: a window that is not above 0.
    """
    if rules.window_hours <= 0:
        raise ConfigError(
            f"window_hours is {rules.window_hours}, but must be above 0; option: window_hours"
        )
    keys = [roles.of[r] for r in ("request_id", "item_id") if r in roles]
    if "request_id" not in roles or answers[roles.of["request_id"]].null_count():
        keys = [roles.of[r] for r in ("user_id", "session_id", "item_id") if r in roles][-2:]
    time = roles.of["time"]
    worth = _worth(answers, roles, where)
    right = shown.select(*keys, "_row", _shown_at=pl.col(time)).sort("_shown_at")
    left = answers.select(*keys, event, _at=pl.col(time), _worth=worth).sort("_at")
    joined = left.join_asof(
        right, left_on="_at", right_on="_shown_at", by=keys, strategy="backward",
        check_sortedness=False,
    )  # fmt: skip
    timed = rules.window_hours < float("inf")
    window = int(rules.window_hours * 3_600_000_000) if timed else 2**62
    lost = joined["_row"].is_null()
    late = ((joined["_at"] - joined["_shown_at"]) > window).fill_null(False)
    total = answers.height
    notes.leave_out("rows", int(lost.sum()), total, "answers to items that were not shown before")
    notes.leave_out(
        "rows", int(late.sum()), total,
        f"answers later than {rules.window_hours:g} hours after the showing", "window_hours",
    )  # fmt: skip
    good = joined.filter(~lost & ~late)
    wide = good.group_by("_row", event).agg(pl.col("_worth").max())
    for kind in kinds:
        one = wide.filter(pl.col(event) == kind).select("_row", pl.col("_worth").alias(kind))
        shown = shown.join(one, on="_row", how="left", maintain_order="left").with_columns(
            pl.col(kind).fill_null(0.0)
        )
    return shown
