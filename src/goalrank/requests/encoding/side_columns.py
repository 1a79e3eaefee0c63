"""`SideColumns`: the columns that rows of items or of users may have, and the type of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa

from goalrank.requests.encoding.features import DISPLAY_COLUMNS, FeatureEncoder

Told = Mapping[Any, Mapping[str, Any]]
"""Id → column → value: what was said of items or users, column by column."""


@dataclass(frozen=True)
class SideColumns:
    """Columns of a side table by type, for values that come one by one.

    Attributes:
        numbers: columns of numbers or booleans; dates and times are days since 1970.
        texts: columns of strings → values of a cell, at most; of one, a plain string will do.
        vectors: columns of vectors → their length.
    """

    numbers: frozenset[str] = frozenset()
    texts: Mapping[str, int] = field(default_factory=dict)
    vectors: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, features: FeatureEncoder) -> SideColumns:
        """Columns that a model was trained with.

        Args:
            features: of the model's items or users.
        """
        vectors = {name: length for name, (length, _) in features.vector.items()}
        return cls(frozenset(features.numeric), dict(features.multi), vectors)

    def shown_too(self) -> SideColumns:
        """These columns and those for display."""
        return SideColumns(
            self.numbers, {**dict.fromkeys(DISPLAY_COLUMNS, 1), **self.texts}, self.vectors
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All columns, sorted."""
        return tuple(sorted({*self.numbers, *self.texts, *self.vectors}))

    def wanted(self, name: str, value: Any) -> str | None:
        """What a column takes, where a value is none of it; None where it fits.

        Args:
            name: one of `names`.
            value: as JSON has it.
        """
        if name in self.numbers:
            return None if type(value) in (int, float, bool) else "a number or true or false"
        if name in self.vectors:
            length = self.vectors[name]
            good = _is_list(value, (int, float)) and len(value) == length
            return None if good else f"a list of {length} numbers"
        if _is_list(value, (str,)) or (self.texts[name] == 1 and isinstance(value, str)):
            return None
        return "a string" if self.texts[name] == 1 else "a list of strings"

    def table(self, told: Told, ids: pl.DataType, id_column: str) -> pl.DataFrame:
        """What was told as a side table with all columns; null where nothing was, or another type.

        Args:
            told: R ids.
            ids: type of the ids.
            id_column: name of the column of ids.
        """
        types: dict[str, pa.DataType] = {
            **dict.fromkeys(self.numbers, pa.float64()),
            **dict.fromkeys(self.texts, pa.large_list(pa.large_string())),
            **dict.fromkeys(self.vectors, pa.large_list(pa.float32())),
        }
        # Arrow reads lists within lists many times faster than Polars does.
        cells = {
            name: pa.array([self._cell(name, row.get(name)) for row in told.values()], dtype)
            for name, dtype in types.items()
        }
        own = pl.Series(id_column, list(told), dtype=ids)
        return pl.DataFrame([own, *(pl.Series(name, values) for name, values in cells.items())])

    def _cell(self, name: str, value: Any) -> Any:
        if value is None or self.wanted(name, value) is not None:
            return None
        if name in self.numbers:
            return float(value)
        return [value] if isinstance(value, str) else value


def _is_list(value: Any, types: tuple[type, ...]) -> bool:
    return isinstance(value, list) and all(type(each) in types for each in value)
