"""`LatestColumns`: what is said of items or users, the latest value of each column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import polars as pl
import sqlalchemy as sa
from pydantic_core import from_json, to_json

from goalrank.serving.state.event_log import EVENTS, EventLog
from goalrank.serving.state.logged import SideTable
from goalrank.serving.store.records import micros
from goalrank.serving.store.store import Store

__all__ = ["LatestColumns", "told_columns"]

_PARSED = 32_768  # lines kept as objects too: ids that are asked for again and again


class LatestColumns:
    """The value of each column that is the latest by its own time, per id.

    Of two values of one time, the one that came later counts. An id's columns are kept as a line of
    JSON, which takes a fraction of the memory of objects and can be read while others are written.

    Attributes:
        bytes: memory of the lines.
    """

    def __init__(self) -> None:
        self._lines: dict[Any, bytes] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._lines)

    def tell(self, own: int | str, time: int, columns: Mapping[str, Any]) -> None:
        """Take in values; those older than what is known change nothing.

        Args:
            own: id.
            time: microseconds.
            columns: column → value; the others stay as they are.
        """
        line = self._lines.get(own, b"{}")
        known: dict[str, Any] = from_json(line)
        newer = {
            name: [time, value] for name, value in columns.items() if _is_new(known, name, time)
        }
        self._put(own, to_json(known | newer))

    def _put(self, own: int | str, line: bytes) -> None:
        self.bytes += len(line) - len(self._lines.get(own, b""))
        self._lines[own] = line

    def of(self, ids: Iterable[Any]) -> dict[Any, dict[str, Any]]:
        """Id → column → value; ids of which nothing is said are left out.

        Args:
            ids: each may occur several times.

        Returns:
            Objects that others have too, and that must not be changed: mostly the ones of the last
            call, where nothing else was said.
        """
        lines = self._lines
        if not lines:
            return {}
        return {own: _values(line) for own in ids if (line := lines.get(own)) is not None}

    def remove(self, own: int | str) -> None:
        """Forget an id."""
        self.bytes -= len(self._lines.pop(own, b""))

    @property
    def ids(self) -> list[Any]:
        """Of which something is said."""
        return list(self._lines)

    def frame(self) -> pl.DataFrame:
        """All of it, as a snapshot keeps it: id and line."""
        lines = pl.Series(list(self._lines.values()), dtype=pl.Binary)
        return pl.DataFrame({"id": list(self._lines), "line": lines})

    def restore(self, frame: pl.DataFrame) -> None:
        """Take over what `frame` gave."""
        for own, line in frame.iter_rows():
            self._put(own, line)


def told_columns(
    store: Store, *, until: datetime | None = None
) -> dict[SideTable, dict[Any, dict[str, Any]]]:
    """What the events of a store say of items and of users, the latest value of each column.

    Args:
        store: the server's.
        until: what holds only from this time on is left out; None takes all.

    Returns:
        Side table → id → column → value.

    Raises:
        StoreError: the events cannot be read.
    """
    found: dict[SideTable, LatestColumns] = {"items": LatestColumns(), "users": LatestColumns()}
    end = None if until is None else micros(until)
    if sa.inspect(store.engine).has_table(EVENTS.name):
        for part in EventLog(store.engine).told():
            for each in part:
                if end is None or each.time < end:
                    found[each.table].tell(each.id, each.time, each.columns)
    return {table: latest.of(latest.ids) for table, latest in found.items()}


@lru_cache(maxsize=_PARSED)
def _values(line: bytes) -> dict[str, Any]:
    return {name: value for name, (_, value) in from_json(line).items()}


def _is_new(known: Mapping[str, Any], name: str, time: int) -> bool:
    return name not in known or time >= known[name][0]
