"""`SideRows`: rows of ids whose features come from a side table or from events, encoded once."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from goalrank.requests.encoding.batch import EntityTable
from goalrank.requests.encoding.entities import EntityEncoder
from goalrank.requests.encoding.side_columns import SideColumns, Told
from goalrank.requests.encoding.vocabulary import Ids, listed

_SPARE = 65_536  # rows of what is told; when they are used up, those that are asked for come anew


class SideRows:
    """Rows of items or users in a table that grows behind the encoder's own.

    A side table's new ids get their rows at the start. What is told of an id is encoded when it is
    asked for first, and again only when something else is told: a request costs a look-up per id,
    whatever the size of the catalogue. Safe for threads: a row that was given out is never changed.

    Args:
        entity: encoder of the side; it has the features of known ids.
        side: side table, of which the rows of new ids are taken; None has no rows.
        id_column: name of the column of ids.
        spare: rows of what is told that are kept.
    """

    def __init__(
        self,
        entity: EntityEncoder,
        side: pl.DataFrame | None,
        id_column: str,
        *,
        spare: int = _SPARE,
    ) -> None:
        self._entity, self._id_column, self._spare = entity, id_column, spare
        self._columns = SideColumns.of(entity.features)
        self._ids = entity.vocabulary.ids.dtype
        self._lock = threading.Lock()
        self._base, self._new = _with_new(entity, side, id_column)
        self._grown: _Grown | None = None

    def find(self, ids: Ids, told: Told) -> tuple[NDArray[np.int64], EntityTable]:
        """Rows [n] of ids in the table returned with them; see `EntityEncoder.rows`.

        Args:
            ids: [n] ids.
            told: what is told of some of them, column by column. The mapping of an id is compared
                with the one of the last call and must not be changed.
        """
        rows = self._entity.vocabulary.rows(ids)
        if not told and not self._new:
            return rows, self._base
        if not told:
            return _replaced(rows, ids, self._new), self._base
        with self._lock:
            own, table = self._told_rows(told)
        return _replaced(_replaced(rows, ids, self._new), ids, own), table

    def _told_rows(self, told: Told) -> tuple[dict[Any, int], EntityTable]:
        """Rows of the told ids that have one of their own, and a table that holds them."""
        grown = self._grown
        unknown = {own: told[own] for own in told if grown is None or not grown.has(own, told[own])}
        if grown is None or grown.size + len(unknown) > len(grown.table):
            unknown = dict(told)
            grown = self._grown = _Grown.of(self._base, max(self._spare, len(unknown)))
        if unknown:
            self._encode(unknown, grown)
        return {own: row for own in told if (row := grown.rows[own][1]) >= 0}, grown.view()

    def _encode(self, told: Told, grown: _Grown) -> None:
        """Add the rows of what was told anew."""
        side = self._columns.table(told, self._ids, self._id_column)
        ids = list(told)
        before = _replaced(self._entity.vocabulary.rows(side[self._id_column]), ids, self._new)
        wanted, fresh = self._entity.changed(side, self._id_column, self._base, before, nulls=True)
        places = np.where(wanted, np.cumsum(wanted) - 1 + grown.size, -1).tolist()
        grown.add(fresh)
        grown.rows.update({own: (told[own], place) for own, place in zip(ids, places)})


@dataclass
class _Grown:
    """A table with room at its end.

    Attributes:
        table: all rows, used or not.
        size: rows that are used.
        rows: id → what was told, and its row; -1 where that changes nothing.
    """

    table: EntityTable
    size: int
    rows: dict[Any, tuple[Any, int]]

    @classmethod
    def of(cls, base: EntityTable, spare: int) -> _Grown:
        columns = (getattr(base, each.name) for each in fields(base))
        longer = (torch.cat([c, c.new_zeros(spare, *c.shape[1:])]) for c in columns)
        return cls(EntityTable(*longer), len(base), {})

    def has(self, own: Any, told: Any) -> bool:
        found = self.rows.get(own)
        return found is not None and (found[0] is told or found[0] == told)

    def add(self, fresh: EntityTable) -> None:
        end = self.size + len(fresh)
        for each in fields(fresh):
            getattr(self.table, each.name)[self.size : end] = getattr(fresh, each.name)
        self.size = end

    def view(self) -> EntityTable:
        return EntityTable(
            *(getattr(self.table, each.name)[: self.size] for each in fields(self.table))
        )


def _with_new(
    entity: EntityEncoder, side: pl.DataFrame | None, id_column: str
) -> tuple[EntityTable, dict[Any, int]]:
    """The encoder's table with rows of a side table's new ids, and where these are."""
    if side is None:
        return entity.table, {}
    new = side.filter(pl.Series(~entity.vocabulary.contains(side[id_column])))
    if not new.height:
        return entity.table, {}
    ids = new[id_column].unique().sort()
    rows, table = entity.rows(ids, new, id_column)
    return table, dict(zip(ids.to_list(), rows.tolist()))


def _replaced(rows: NDArray[np.int64], ids: Ids, own: dict[Any, int]) -> NDArray[np.int64]:
    """Rows [n], with those of ids that have one of their own instead."""
    if not own:
        return rows
    found = np.fromiter((own.get(each, -1) for each in listed(ids)), np.int64, len(ids))
    return np.where(found >= 0, found, rows)
