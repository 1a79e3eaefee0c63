"""What a requests table is, in a few lines of text or HTML."""

from __future__ import annotations

import polars as pl

from goalrank._notebook import html_table
from goalrank.requests.table.info import TableInfo
from goalrank.wording import counted

Side = pl.DataFrame | None


def summary_text(frame: pl.DataFrame, items: Side, users: Side, info: TableInfo) -> str:
    """Sizes, feedback, source and times as lines of text."""
    head, facts = _facts(frame, items, users, info)
    return "\n".join([f"Requests: {head}", *(f"  {name:<9} {text}" for name, text in facts)])


def summary_html(frame: pl.DataFrame, items: Side, users: Side, info: TableInfo) -> str:
    """The same as a table for a notebook; every text is escaped."""
    head, facts = _facts(frame, items, users, info)
    return html_table(f"Requests: {head}", facts)


def _facts(
    frame: pl.DataFrame, items: Side, users: Side, info: TableInfo
) -> tuple[str, list[tuple[str, str]]]:
    among = frame["candidates"].explode().drop_nulls().n_unique()
    known = frame["user_id"].drop_nulls().n_unique()
    spans = [
        f"{letter} {_span(frame[name].list.len())}"
        for letter, name in (("N", "candidates"), ("H", "history"), ("S", "shown"))
    ]
    extra = [name for name in ("candidate_score", "propensity", "policy") if name in frame.columns]
    kinds = ", ".join(info.feedback_kinds) or "none"
    facts = [
        ("sizes", f"{' · '.join(spans)} · F {len(info.candidate_features)}"),
        ("feedback", f"{kinds} (target: {info.target})"),
        ("source", f"{info.dataset}, protocol {info.protocol}"),
        ("time", _span(frame["time"])),
        ("beside", ", ".join([_beside(items, "item"), _beside(users, "user"), *extra])),
    ]
    facts += [("warning", info.warning)] if info.warning else []
    head = f"{counted(frame.height, 'row')}, {counted(known, 'user')}, {counted(among, 'item')} among the candidates"
    return head, facts


def _span(values: pl.Series) -> str:
    low, high = str(values.min()), str(values.max())
    return low if low == high else f"{low} … {high}"


def _beside(side: pl.DataFrame | None, name: str) -> str:
    return (
        f"no {name}s table"
        if side is None
        else f"{counted(side.height, name)} x {counted(side.width - 1, 'column')}"
    )
