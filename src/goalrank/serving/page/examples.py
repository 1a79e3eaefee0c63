"""Example requests of the page, and the item cards that it shows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from goalrank.bundles import Predictor
from goalrank.requests import Requests
from goalrank.serving.page.folded_text import fold, folded

_MOST_FACTS = 4
_HIDDEN = {"item_id", "title", "url"}


class Examples:
    """Example requests by user.

    Args:
        table: logged requests, whose feedback shows what the users liked; None for no examples.
    """

    def __init__(self, table: Requests | None) -> None:
        self.table = table
        self.items = None if table is None else table.items
        self._rows: dict[str, list[int]] = {}
        if table is not None:
            for row, user in enumerate(table.frame["user_id"].cast(pl.String)):
                self._rows.setdefault(user, []).append(row)
        self._folded = folded(pl.Series(list(self._rows), dtype=pl.String)).to_list()

    def __len__(self) -> int:
        """Number of example requests."""
        return 0 if self.table is None else len(self.table)

    def users(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Find users by id, whatever its case and accents.

        Args:
            query: part of the id.
            limit: users, at most.

        Returns:
            `user` and the number of `requests` of each user; ids that begin with the query first.
        """
        wanted = fold(query)
        found = [pair for pair in zip(self._folded, self._rows) if wanted in pair[0]]
        found.sort(key=lambda pair: not pair[0].startswith(wanted))
        return [{"user": user, "requests": len(self._rows[user])} for _, user in found[:limit]]

    def request(self, user: str, index: int, now: datetime) -> dict[str, Any] | None:
        """Make a body of /v1/rank from an example, moved in time so that it happens now.

        Models see how long ago something happened, never the date, so the lists stay the same.

        Args:
            user: id of the user, as text.
            index: number of the user's example, from 0.
            now: time of the request.

        Returns:
            The body and what the log knows of it; None if there is no such example.
        """
        rows = self._rows.get(user, [])
        if self.table is None or not 0 <= index < len(rows):
            return None
        row = self.table.frame.row(rows[index], named=True)
        shift = now - row["time"].astimezone(UTC)
        body = {
            "user_id": row["user_id"],
            "time": now.isoformat(),
            "history": row.get("history") or [],
            "history_feedback": row.get("history_feedback") or [],
            "history_time": [(t + shift).isoformat() for t in row.get("history_time") or []],
            "candidates": row["candidates"],
            "candidate_score": row.get("candidate_score"),
            "candidate_features": row.get("candidate_features") or None,
        }
        if len(body["history_feedback"]) != len(body["history"]):
            body["history_feedback"] = None
        return {
            "request": body, "index": index, "of": len(rows),
            "answers": _logged_feedback(row, self.table.info.target), "source": row["request_id"],
        }  # fmt: skip


def item_cards(
    ids: Sequence[Any], items: pl.DataFrame | None, predictor: Predictor
) -> list[dict[str, Any]]:
    """Make the cards by which the page shows items.

    Args:
        ids: item ids.
        items: side table of items; None leaves titles and facts out.
        predictor: its model knows some of the items.

    Returns:
        One card per id: `id`, `title`, `facts` (name and value) and `known` (to the model).
    """
    vocabulary = predictor.bundle.encoder.items.vocabulary
    column = pl.Series(ids, dtype=vocabulary.ids.dtype)
    known = vocabulary.contains(column)
    rows: dict[Any, dict[str, Any]] = {}
    if items is not None and len(ids):
        wanted = items.filter(pl.col("item_id").cast(vocabulary.ids.dtype).is_in(column.implode()))
        rows = {row["item_id"]: row for row in wanted.iter_rows(named=True)}
    return [
        {"id": each, **_title_and_facts(rows.get(each, {})), "known": bool(is_known)}
        for each, is_known in zip(ids, known)
    ]


class ItemSearch:
    """Items by title or id, whatever their case and accents.

    Args:
        items: side table of items; None searches the ids of the model.
        predictor: its model knows some of the items.
    """

    def __init__(self, items: pl.DataFrame | None, predictor: Predictor) -> None:
        self.items, self.predictor = items, predictor
        known = predictor.bundle.encoder.items.vocabulary.ids
        self._ids = known if items is None else items["item_id"].cast(known.dtype)
        titled = items is not None and "title" in items.columns
        self._folded_ids = folded(self._ids)
        self._titles = folded(items["title"]) if items is not None and titled else None

    def find(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Find items.

        Args:
            query: part of the title, or the beginning of the id.
            limit: items, at most.

        Returns:
            The cards of the items, see `item_cards`.
        """
        wanted = fold(query)
        hit = self._folded_ids.str.starts_with(wanted)
        if self._titles is not None:
            hit |= self._titles.str.contains(wanted, literal=True)
        return item_cards(self._ids.filter(hit).head(limit).to_list(), self.items, self.predictor)


def rule_columns(items: pl.DataFrame | None) -> list[str]:
    """List the item columns that constraints of the page can use: names and lists of names.

    Args:
        items: side table of items; None gives no column.
    """
    if items is None:
        return []
    text = (pl.String, pl.List(pl.String), pl.Boolean, pl.Categorical)
    return [n for n, t in items.schema.items() if n not in _HIDDEN and t in text]


def _logged_feedback(row: dict[str, Any], target: str | None) -> dict[str, Any]:
    """Tell the target, the positions shown, and those of them that the user liked."""
    shown = row.get("shown") or []
    values = (row.get("feedback") or {}).get(target) or [] if target else []
    return {
        "target": target,
        "shown": shown,
        "liked": [at for at, value in zip(shown, values) if value and value > 0],
    }


def _title_and_facts(row: dict[str, Any]) -> dict[str, Any]:
    """Choose the facts of a card: lists of names first, then names; numbers are left out."""
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
