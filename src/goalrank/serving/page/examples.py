"""Requests that the page offers to start from, and what is shown of items."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from goalrank.bundles import Predictor
from goalrank.requests import Requests

_MOST_FACTS = 4
_HIDDEN = {"item_id", "title", "url"}


class Examples:
    """Example requests by user; may be empty.

    Args:
        table: requests as in a log; their feedback shows what users liked.
    """

    def __init__(self, table: Requests | None) -> None:
        self.table = table
        self.items = None if table is None else table.items
        self._rows: dict[str, list[int]] = {}
        if table is not None:
            for row, user in enumerate(table.frame["user_id"].cast(pl.String)):
                self._rows.setdefault(user, []).append(row)

    def __len__(self) -> int:
        return 0 if self.table is None else len(self.table)

    def users(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Users whose id contains the query, those that begin with it first, in their order."""
        found = [user for user in self._rows if query in user]
        found.sort(key=lambda user: not user.startswith(query))
        return [{"user": user, "requests": len(self._rows[user])} for user in found[:limit]]

    def request(self, user: str, index: int, now: datetime) -> dict[str, Any] | None:
        """A user's example as a body of /v1/rank, moved in time so that it happens now.

        Models see how long ago something happened, never the date, so that lists stay the same.
        Returns None where there is no such example.
        """
        rows = self._rows.get(user, [])
        if self.table is None or not 0 <= index < len(rows):
            return None
        row = self.table.frame.row(rows[index], named=True)
        later = now - row["time"].astimezone(UTC)
        body = {
            "user_id": row["user_id"],
            "time": now.isoformat(),
            "history": row.get("history") or [],
            "history_feedback": row.get("history_feedback") or [],
            "history_time": [(t + later).isoformat() for t in row.get("history_time") or []],
            "candidates": row["candidates"],
            "candidate_score": row.get("candidate_score"),
            "candidate_features": row.get("candidate_features") or None,
        }
        if len(body["history_feedback"]) != len(body["history"]):
            body["history_feedback"] = None
        return {
            "request": body, "index": index, "of": len(rows), "answers": self._answers(row),
            "source": row["request_id"],
        }  # fmt: skip

    def _answers(self, row: dict[str, Any]) -> dict[str, Any]:
        """What the log knows of the candidates: positions shown, and those of them that were
        liked."""
        assert self.table is not None
        shown = row.get("shown") or []
        target = self.table.info.target
        values = (row.get("feedback") or {}).get(target) or [] if target else []
        return {
            "target": target,
            "shown": shown,
            "liked": [at for at, value in zip(shown, values) if value and value > 0],
        }


def cards(
    ids: Sequence[Any], items: pl.DataFrame | None, engine: Predictor
) -> list[dict[str, Any]]:
    """What is shown of items: title, facts (name and text), and whether the model knows them."""
    known = engine.bundle.encoder.items.vocabulary
    column = pl.Series(ids, dtype=known.ids.dtype)
    seen = known.contains(column)
    rows: dict[Any, dict[str, Any]] = {}
    if items is not None and len(ids):
        wanted = items.filter(pl.col("item_id").cast(known.ids.dtype).is_in(column.implode()))
        rows = {row["item_id"]: row for row in wanted.iter_rows(named=True)}
    return [
        {"id": each, **_card(rows.get(each, {})), "known": bool(there)}
        for each, there in zip(ids, seen)
    ]


def search_items(
    query: str, items: pl.DataFrame | None, engine: Predictor, limit: int
) -> list[dict[str, Any]]:
    """Items whose title contains the query, or whose id begins with it."""
    ids = engine.bundle.encoder.items.vocabulary.ids
    if items is not None:
        hit = pl.col("item_id").cast(pl.String).str.starts_with(query)
        if "title" in items.columns:
            title = pl.col("title").cast(pl.String).str.to_lowercase().fill_null("")
            hit = hit | title.str.contains(query.lower(), literal=True)
        found = items.lazy().filter(hit).select("item_id").head(limit).collect()["item_id"]
    else:
        found = ids.filter(ids.cast(pl.String).str.starts_with(query)).head(limit)
    return cards(found.cast(ids.dtype).to_list(), items, engine)


def rule_columns(items: pl.DataFrame | None) -> list[str]:
    """Item columns that rules of the page can look at: names and lists of names."""
    if items is None:
        return []
    text = (pl.String, pl.List(pl.String), pl.Boolean, pl.Categorical)
    return [n for n, t in items.schema.items() if n not in _HIDDEN and t in text]


def _card(row: dict[str, Any]) -> dict[str, Any]:
    """Lists of names tell most, then names; numbers are left out."""
    facts: list[tuple[int, str, str]] = []
    for name, value in row.items():
        if name in _HIDDEN or value is None:
            continue
        if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
            facts.append((0, name, ", ".join(value)))
        elif isinstance(value, str) and value:
            facts.append((1, name, value))
    facts.sort(key=lambda fact: fact[0])
    title = row.get("title")
    return {
        "title": None if title is None else str(title),
        "facts": [{"name": name, "value": value} for _, name, value in facts[:_MOST_FACTS]],
    }
