"""Codes of ids in the order in which they come, piece by piece."""

from __future__ import annotations

import polars as pl

from goalrank.logs.events.arrays import Ints

__all__ = ["IdCoder"]


class IdCoder:
    """Numbers ids by their first appearance in what `add` is given.

    Memory holds the distinct ids only.
    """

    def __init__(self) -> None:
        self._table: pl.DataFrame | None = None

    def __len__(self) -> int:
        return 0 if self._table is None else self._table.height

    @property
    def ids(self) -> pl.Series:
        """The distinct ids; the code of an id is its row."""
        return pl.Series("id", [], pl.Int64) if self._table is None else self._table["id"]

    def add(self, ids: pl.Series) -> Ints:
        """Codes of ids [n]; new ids get the next numbers.

        Args:
            ids: without nulls; all calls give one type.
        """
        rows = pl.DataFrame({"id": ids})
        codes = self._find(rows)
        if codes.null_count():
            fresh = rows.filter(codes.is_null()).unique("id", keep="first", maintain_order=True)
            self._learn(fresh)
            codes = self._find(rows)
        found: Ints = codes.to_numpy()
        return found

    def _find(self, rows: pl.DataFrame) -> pl.Series:
        if self._table is None:
            return pl.Series("code", [None], pl.Int32).new_from_index(0, rows.height)
        return rows.join(self._table, on="id", how="left", maintain_order="left")["code"]

    def _learn(self, fresh: pl.DataFrame) -> None:
        numbers = pl.int_range(len(self), len(self) + fresh.height, dtype=pl.Int32, eager=True)
        fresh = fresh.with_columns(code=numbers)
        self._table = fresh if self._table is None else pl.concat([self._table, fresh])
