"""Rules that rows of a requests table obey; every fault is found in one vectorised pass."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import ValidationError
from goalrank.requests.table.info import Bounds, TableInfo
from goalrank.requests.table.schema import SCHEMA, aligned_with
from goalrank.wording import counted

RULES: dict[str, tuple[str, str]] = {
    "null": ("must not be null", "drop the row or fill the value"),
    "duplicate_id": ("request ids are unique", "make the ids unique or drop the copies"),
    "no_candidates": ("a request has at least one candidate", "drop the request"),
    "duplicate_entry": ("an entry occurs once in a list", "keep one copy of it"),
    "length": ("lists that belong together have one length", "align the lists"),
    "not_finite": ("numbers are finite (no NaN, inf or null)", "replace the value"),
    "position": ("positions lie in 0 … N-1 of `candidates`", "give positions, not item ids"),
    "range": ("feedback lies in TableInfo.feedback_ranges", "mend the value or widen the range"),
    "kind": ("feedback kinds equal TableInfo.feedback_kinds", "add the kind or change TableInfo"),
    "width": ("F equals the names in TableInfo.candidate_features", "name every feature once"),
    "not_sorted": ("history runs from oldest to newest", "sort the history by time"),
    "not_before": ("history lies strictly before the request's time", "cut the history at `time`"),
    "slot_product": (
        "slot propensities, each given the slots before, multiply to the list's propensity",
        "store P(item | items before it), not the marginal of the slot",
    ),
    "propensity": ("a propensity lies in (0, 1]", "store the probability of the list, or null"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule.

    Attributes:
        row: row of the table, from 0; None where the fault is the whole table's.
        column: column, or `feedback.<kind>`.
        rule: key of `RULES`.
        value: the value found.
    """

    row: int | None
    column: str
    rule: str
    value: str

    def __str__(self) -> str:
        where = "table" if self.row is None else f"row {self.row}"
        return f"{where}, column '{self.column}': {RULES[self.rule][0]}; found {self.value}"


@dataclass(frozen=True)
class _Check:
    """`bad` marks rows that break `rule`; `value` is computed on those rows only."""

    column: str
    rule: str
    bad: pl.Expr
    value: pl.Expr


def find_faults(frame: pl.DataFrame, info: TableInfo, max_faults: int | None = None) -> list[Fault]:
    """Every fault of a conforming table, in row order (faults of the whole table first).

    Args:
        frame: as `conform` returns it.
        info: its description.
        max_faults: stop the list there; None lists all.
    """
    checks = _checks(frame, info)
    marks = frame.select(
        [check.bad.fill_null(False).alias(str(i)) for i, check in enumerate(checks)]
    )
    found = _table_faults(frame, info)
    for i, check in enumerate(checks):
        rows = marks[str(i)].arg_true()
        if rows.len():
            values = frame[rows].select(value=check.value)["value"].to_list()
            found += [
                Fault(row, check.column, check.rule, _short(value))
                for row, value in zip(rows.to_list(), values)
            ]
    found += _bad_vectors(frame)
    found.sort(key=lambda fault: -1 if fault.row is None else fault.row)
    return found if max_faults is None else found[:max_faults]


def validation_error(faults: Sequence[Fault], source: str, rows: int) -> ValidationError:
    """A summary of many faults: the first ten, counts per rule, and what to do next."""
    counts = Counter(fault.rule for fault in faults)
    lines = [f"{source}: {counted(len(faults), 'fault')} in {counted(rows, 'request')}"]
    lines += [f"  {fault}" for fault in faults[:10]]
    if len(faults) > 10:
        lines.append(f"  and {len(faults) - 10} more")
    lines.append("by rule:")
    lines += [
        f"  {count:>7} x {rule}: {RULES[rule][0]}; remedy: {RULES[rule][1]}"
        for rule, count in counts.most_common()
    ]
    lines.append(f"to see all: goalrank data validate {source}; or read with validate=False")
    return ValidationError("\n".join(lines), faults)


def _short(value: object) -> str:
    return value if isinstance(value, str) else reprlib.repr(value)


def _checks(frame: pl.DataFrame, info: TableInfo) -> list[_Check]:
    checks = _id_checks() + _candidate_checks(frame) + _history_checks(frame) + _shown_checks()
    for kind in _used_kinds(frame):
        column = pl.col("feedback").struct.field(kind)
        name = f"feedback.{kind}"
        checks += [_same_length(name, column, "shown"), _finite(name, column)]
        if info.feedback_ranges.get(kind, (None, None)) != (None, None):
            checks.append(_in_range(name, column, info.feedback_ranges[kind]))
    if "propensity" in frame.columns:
        p = pl.col("propensity")
        outside = p.is_not_null() & ~((p > 0) & (p <= 1) & p.is_finite())
        checks.append(_Check("propensity", "propensity", outside, p))
    return checks + _slot_propensity_checks(frame)


def _slot_propensity_checks(frame: pl.DataFrame) -> list[_Check]:
    if "slot_propensity" not in frame.columns:
        return []
    name = "slot_propensity"
    each = pl.col(name)
    entry = pl.element()
    bad = ~((entry > 0) & (entry <= 1)).fill_null(False)
    # A null list is unknown; only lists that are there must fit.
    length = each.is_not_null() & (each.list.len() != pl.col("shown").list.len())
    checks = [
        _Check(name, "length", length, pl.format("{} entries", each.list.len())),
        _Check(name, "propensity", each.list.eval(bad).list.any(), each),
    ]
    if "propensity" in frame.columns:
        product = each.list.eval(entry.log()).list.sum().exp()
        off = (product - pl.col("propensity")).abs() > 1e-6 * pl.col("propensity")
        found = pl.format("a product of {} for {}", product, pl.col("propensity"))
        checks.append(_Check(name, "slot_product", off & (each.list.len() > 0), found))
    return checks


def _id_checks() -> list[_Check]:
    request = pl.col("request_id")
    checks = [
        _Check(name, "null", pl.col(name).is_null(), pl.lit("null"))
        for name in (column.name for column in SCHEMA if column.is_required)
    ]
    checks += [
        _Check(name, "null", _any_null(pl.col(name)), pl.lit("a null entry"))
        for name in (column.name for column in SCHEMA if column.entries_known)
    ]
    copies = request.is_duplicated() & request.is_not_null()
    return [*checks, _Check("request_id", "duplicate_id", copies, request)]


def _candidate_checks(frame: pl.DataFrame) -> list[_Check]:
    candidates = pl.col("candidates")
    checks = [
        _Check("candidates", "no_candidates", candidates.list.len() == 0, pl.lit("an empty list")),
        _Check("candidates", "duplicate_entry", _repeats(candidates), _repeated(candidates)),
    ]
    if "candidate_score" in frame.columns:
        score = pl.col("candidate_score")
        checks += [
            _same_length("candidate_score", score, "candidates"),
            _finite(score.meta.output_name(), score),
        ]
    if "candidate_features" in frame.columns:
        features = pl.col("candidate_features")
        checks.append(_same_length("candidate_features", features, "candidates"))
    return checks


def _history_checks(frame: pl.DataFrame) -> list[_Check]:
    # A table may know nothing of when or how history was liked; then the lists are empty everywhere.
    checks = [
        _same_length(name, pl.col(name), "history")
        for name in aligned_with("history")
        if frame[name].list.len().max()
    ]
    times, ticks = pl.col("history_time"), pl.col("history_time").cast(pl.List(pl.Int64))
    backwards = ticks.list.diff().list.min() < 0
    late = times.list.max() >= pl.col("time")
    last = pl.format(
        "{} at a request of {}", times.list.max().cast(pl.String), pl.col("time").cast(pl.String)
    )
    step = pl.format("a step of {} s", ticks.list.diff().list.min() / 1e6)
    return [
        *checks,
        _finite("history_feedback", pl.col("history_feedback")),
        _Check("history_time", "not_sorted", backwards, step),
        _Check("history_time", "not_before", late, last),
    ]


def _shown_checks() -> list[_Check]:
    shown, n = pl.col("shown"), pl.col("candidates").list.len().fill_null(0)
    outside = (shown.list.min() < 0) | (shown.list.max().cast(pl.Int64) >= n.cast(pl.Int64))
    found = pl.format("positions {} … {} for {} candidates", shown.list.min(), shown.list.max(), n)
    return [
        _Check("shown", "position", outside, found),
        _Check("shown", "duplicate_entry", _repeats(shown), _repeated(shown)),
    ]


def _any_null(column: pl.Expr) -> pl.Expr:
    return column.list.len() > column.list.drop_nulls().list.len()


def _repeats(column: pl.Expr) -> pl.Expr:
    return column.list.n_unique() < column.list.len()


def _repeated(column: pl.Expr) -> pl.Expr:
    copies = column.list.eval(pl.element().filter(pl.element().is_duplicated()))
    return copies.list.unique(maintain_order=True)


def _same_length(name: str, column: pl.Expr, other: str) -> _Check:
    ours = column.list.len().fill_null(0)
    theirs = pl.col(other).list.len().fill_null(0)
    found = pl.format(f"{{}} entries for {{}} in '{other}'", ours, theirs)
    # A null list is unknown; only lists that are there must fit.
    return _Check(name, "length", column.is_not_null() & (ours != theirs), found)


def _in_range(name: str, column: pl.Expr, bounds: Bounds) -> _Check:
    low, high = bounds
    entry = pl.element()
    outside = pl.lit(False)
    outside = outside if low is None else outside | (entry < low)
    outside = outside if high is None else outside | (entry > high)
    found = column.list.eval(entry.filter(outside).cast(pl.String)).list.join(", ")
    bad = column.list.eval(outside).list.any()
    return _Check(name, "range", bad, pl.format(f"{{}} outside {bounds}", found))


def _finite(name: str, column: pl.Expr) -> _Check:
    bad = ~pl.element().is_finite().fill_null(False)
    return _Check(
        name,
        "not_finite",
        column.list.eval(bad).list.any(),
        pl.format(
            "{}",
            column.list.eval(pl.element().filter(bad).cast(pl.String).fill_null("null")).list.join(
                ", "
            ),
        ),
    )


def _used_kinds(frame: pl.DataFrame) -> list[str]:
    """Kinds with any value: one that is empty all over is a fault of the table, not of each row."""
    kinds = frame["feedback"].struct.fields
    return [k for k in kinds if frame["feedback"].struct.field(k).list.len().max()]


def _table_faults(frame: pl.DataFrame, info: TableInfo) -> list[Fault]:
    faults = []
    kinds = frame["feedback"].struct.fields
    for kind in info.feedback_kinds:
        if kind not in kinds:
            faults.append(Fault(None, "feedback", "kind", f"no field '{kind}' among {kinds}"))
        elif kind not in _used_kinds(frame) and frame["shown"].list.len().max():
            faults.append(Fault(None, f"feedback.{kind}", "length", "no value in any row"))
    for kind in kinds:
        if kind not in info.feedback_kinds:
            faults.append(Fault(None, "feedback", "kind", f"a field '{kind}' that TableInfo lacks"))
    if info.target is not None and info.target not in info.feedback_kinds:
        faults.append(
            Fault(None, "feedback", "kind", f"no kind for TableInfo.target '{info.target}'")
        )
    vectors, names = frame.schema.get("candidate_features"), info.candidate_features
    width = vectors.inner.size if isinstance(vectors, pl.List) else 0  # type: ignore[union-attr]
    if width != len(names):
        found = f"F = {width} for the {len(names)} names {reprlib.repr(list(names))}"
        faults.append(Fault(None, "candidate_features", "width", found))
    return faults


def _bad_vectors(frame: pl.DataFrame) -> list[Fault]:
    """Rows with a NaN or inf in a candidate's features, or a feature that is null for some candidates.

    By way of one flat [sum N, F] array.
    """
    if "candidate_features" not in frame.columns:
        return []
    cells = frame.select(row=pl.int_range(pl.len()), cell=pl.col("candidate_features")).filter(
        pl.col("cell").list.len() > 0
    )
    cells = cells.explode("cell")
    lost = cells.filter(pl.col("cell").is_null())["row"]
    cells = cells.drop_nulls("cell")
    flat = cells["cell"].explode()
    width = frame.schema["candidate_features"].inner.size  # type: ignore[attr-defined]
    good = flat.is_finite().fill_null(True).to_numpy().reshape(-1, width).all(1)
    unknown = flat.is_null().to_numpy().reshape(-1, width)
    good &= ~_partly(unknown, cells["row"].to_numpy())
    rows = pl.concat([lost, cells["row"].filter(~pl.Series(good, dtype=pl.Boolean))])
    counts = rows.unique(maintain_order=True).to_list()
    return [
        Fault(row, "candidate_features", "not_finite", "NaN, inf or null in a vector")
        for row in counts
    ]


def _partly(unknown: NDArray[np.bool_], row: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which candidates [n] belong to a row in which a feature is null for some, but not for all.

    Args:
        unknown: [n, F] null entries.
        row: [n] each candidate's row, in order.
    """
    if not unknown.any():
        return np.zeros(len(row), np.bool_)
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    size = np.diff(starts, append=len(row))
    count = np.add.reduceat(unknown.astype(np.int64), starts)
    bad = ((count > 0) & (count < size[:, None])).any(1)
    return np.repeat(bad, size)
