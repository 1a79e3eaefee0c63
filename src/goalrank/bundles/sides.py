"""What a predictor knows of items or of users beside its bundle."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.requests import EntityEncoder, EntityTable, Ids, SideRows, Told, listed

__all__ = ["Side"]


class Side:
    """Side table and latest rows of items or of users, found by id.

    A table can be large and few of its ids new, so that these are chosen once, and a request costs
    a look-up per id instead of a search of the table.

    Args:
        entity: the encoder; it has the side table's features of known ids.
        table: the side table; None has no rows.
        id_column: its column of ids, each once.
    """

    def __init__(self, entity: EntityEncoder, table: pl.DataFrame | None, id_column: str) -> None:
        self._new = table
        self._places: dict[Any, int] = {}
        if table is not None:
            self._new = table.filter(pl.Series(~entity.vocabulary.contains(table[id_column])))
            self._places = {each: at for at, each in enumerate(self._new[id_column].to_list())}
        self._rows = SideRows(entity, self._new, id_column)

    def find(self, ids: Ids, told: Told) -> tuple[NDArray[np.int64], EntityTable]:
        """Rows of ids; see `SideRows.find`."""
        return self._rows.find(ids, told)

    def new(self, ids: Ids, told: Told) -> pl.DataFrame | None:
        """The table's rows of new ids that occur and of which nothing was told; None without any.

        Args:
            ids: of items or users, in any number.
            told: what the latest rows say of some of them.
        """
        if self._new is None or not self._places:
            return None
        places = (self._places.keys() & set(listed(ids))) - told.keys()
        return self._new[sorted(self._places[each] for each in places)] if places else None
