"""Side-table features to numbers: numeric, categorical, multi-categorical and vector columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import DataError
from goalrank.requests.encoding.vocabulary import Vocabulary

DISPLAY_COLUMNS = frozenset({"title", "url"})
_CATEGORY_BUCKETS = 4
_DAY = 86_400e6  # microseconds
_MAX_VALUES = 8  # values kept of one multi-categorical cell

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class FeatureArrays:
    """Encoded features of R rows.

    Attributes:
        numeric: [R, Fn] standardised numbers, each followed by its missing flag, then vectors.
        category: [R, M] rows of one joint category table; 0 is padding.
        category_weight: [R, M] so that a weighted sum is the mean over each column's values.
    """

    numeric: FloatArray
    category: IntArray
    category_weight: FloatArray

    def __len__(self) -> int:
        return len(self.numeric)


@dataclass
class FeatureEncoder:
    """Learned on the side-table rows seen in training; applied to any rows.

    Attributes:
        numeric: column → (log, mean, std); log marks heavy tails taken as log1p.
        categorical: column → vocabulary of its values.
        vector: column → (length, root mean square).
    """

    numeric: dict[str, tuple[bool, float, float]] = field(default_factory=dict)
    categorical: dict[str, Vocabulary] = field(default_factory=dict)
    multi: dict[str, int] = field(default_factory=dict)
    vector: dict[str, tuple[int, float]] = field(default_factory=dict)

    @classmethod
    def fit(cls, table: pl.DataFrame | None, id_column: str) -> FeatureEncoder:
        """Learn ranges and categories from a side table's training rows."""
        encoder = cls()
        if table is None:
            return encoder
        for name, dtype in table.schema.items():
            if name == id_column or name in DISPLAY_COLUMNS or dtype == pl.Null:
                continue
            encoder._fit_column(name, dtype, table[name])
        return encoder

    def _fit_column(self, name: str, dtype: pl.DataType, column: pl.Series) -> None:
        if dtype.is_numeric() or dtype == pl.Boolean or dtype.is_temporal():
            self.numeric[name] = _fit_numeric(numbers(column))
        elif dtype in (pl.String, pl.Categorical, pl.Enum):
            self.categorical[name] = Vocabulary(column.cast(pl.String), _CATEGORY_BUCKETS)
            self.multi[name] = 1
        elif isinstance(dtype, pl.List) and dtype.inner == pl.String:
            self.categorical[name] = Vocabulary(column.explode(), _CATEGORY_BUCKETS)
            longest = int(column.list.len().max() or 1)  # type: ignore[arg-type]
            self.multi[name] = max(1, min(_MAX_VALUES, longest))
        elif isinstance(dtype, pl.Array) or (
            isinstance(dtype, pl.List) and dtype.inner.is_numeric()
        ):
            self._fit_vector(name, column)
        else:
            raise DataError(
                f"side-table column '{name}' has the unsupported type {dtype}; features are "
                f"numbers, booleans, dates, strings, lists of strings or lists of floats"
            )

    def _fit_vector(self, name: str, column: pl.Series) -> None:
        values = column.cast(pl.List(pl.Float32)).drop_nulls()
        lengths = values.list.len().unique().to_list()
        if len(lengths) > 1:
            raise DataError(
                f"vector column '{name}' has rows of lengths {sorted(lengths)[:5]}; all vectors of "
                f"a column must have one length; remedy: pad or drop the odd rows"
            )
        flat = values.explode().to_numpy() if len(values) else np.zeros(1)
        flat = flat[np.isfinite(flat)].astype(np.float64)
        rms = float(np.sqrt(np.mean(np.square(flat)))) if len(flat) else 0.0
        rms = rms or 1.0
        self.vector[name] = (int(lengths[0]) if lengths else 0, rms)

    @property
    def numeric_width(self) -> int:
        """Fn of the encoded arrays."""
        return 2 * len(self.numeric) + sum(self.vector_lengths)

    @property
    def vector_lengths(self) -> tuple[int, ...]:
        """Lengths of the vectors that the encoded numbers end with."""
        return tuple(length for length, _ in self.vector.values() if length)

    @property
    def category_width(self) -> int:
        """M of the encoded arrays."""
        return sum(self.multi.values())

    @property
    def category_rows(self) -> int:
        """Rows of the joint category table, padding row 0 included."""
        return 1 + sum(vocabulary.rows_total for vocabulary in self.categorical.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Columns that were learned."""
        return (*self.numeric, *self.vector, *self.categorical)

    def lacking(
        self, table: pl.DataFrame, *, nulls: bool = False
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which encoded numbers [R, Fn] and categories [R, M] rows of a side table say nothing of.

        Args:
            table: R rows; what it has no column of is lacking.
            nulls: whether null cells are lacking, too.
        """
        widths = [(name, 2) for name in self.numeric]
        widths += [(name, length) for name, (length, _) in self.vector.items()]
        parts = (widths, list(self.multi.items()))
        numeric, category = (
            np.concatenate(
                [np.zeros((table.height, 0), bool)]
                + [np.tile(_lacks(table, name, nulls)[:, None], width) for name, width in part],
                1,
            )
            for part in parts
        )
        return numeric, category

    def encode(self, table: pl.DataFrame) -> FeatureArrays:
        """Encode rows [R] of a side table; absent columns count as missing.

        Raises:
            DataError: a column changed its type since training, or a vector its length.
        """
        numeric = [self._numeric(table, name) for name in self.numeric]
        numeric += [self._vector(table, name) for name in self.vector]
        offset, category, weight = 1, [], []
        for name, vocabulary in self.categorical.items():
            rows = self._category(table, name)
            category.append(np.where(rows > 0, rows + offset - 1, 0))
            count = np.maximum((rows > 0).sum(1, keepdims=True), 1)
            weight.append((rows > 0) / count)
            offset += vocabulary.rows_total
        n = table.height
        return FeatureArrays(
            np.concatenate(numeric, 1).astype(np.float32)
            if numeric
            else np.zeros((n, 0), np.float32),
            np.concatenate(category, 1).astype(np.int64)
            if category
            else np.zeros((n, 0), np.int64),
            np.concatenate(weight, 1).astype(np.float32)
            if weight
            else np.zeros((n, 0), np.float32),
        )

    def _numeric(self, table: pl.DataFrame, name: str) -> NDArray[Any]:
        if name not in table.columns:
            return np.tile(np.array([0.0, 1.0]), (table.height, 1))
        column = table[name]
        if column.dtype.is_temporal():
            column = numbers(column)
        if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
            raise DataError(
                f"feature '{name}' was numeric in training and is {column.dtype} now; "
                f"remedy: cast the column to a number"
            )
        log, mean, std = self.numeric[name]
        values = column.cast(pl.Float64).to_numpy()
        missing = ~np.isfinite(values)
        values = np.log1p(np.maximum(values, 0.0)) if log else values
        values = np.where(missing, 0.0, (np.where(missing, 0.0, values) - mean) / std)
        return np.stack([np.clip(values, -8, 8), missing.astype(np.float64)], 1)

    def _category(self, table: pl.DataFrame, name: str) -> IntArray:
        width, vocabulary = self.multi[name], self.categorical[name]
        if name not in table.columns or table.height == 0:
            return np.zeros((table.height, width), np.int64)
        column = table[name]
        if column.dtype != pl.List:
            column = column.cast(pl.String).reshape((-1, 1)).arr.to_list()
        padded = pl.DataFrame({"v": column}).select(
            [pl.col("v").list.get(i, null_on_oob=True).alias(str(i)) for i in range(width)]
        )
        return np.stack([vocabulary.rows(padded[str(i)].cast(pl.String)) for i in range(width)], 1)

    def _vector(self, table: pl.DataFrame, name: str) -> NDArray[Any]:
        length, rms = self.vector[name]
        out = np.zeros((table.height, length), np.float32)
        if name not in table.columns:
            return out
        column = table[name].cast(pl.List(pl.Float32))
        present = column.is_not_null().to_numpy()
        lengths = column.drop_nulls().list.len()
        if len(lengths) and (lengths != length).any():
            raise DataError(
                f"vector feature '{name}' had length {length} in training and has "
                f"{lengths.unique().to_list()[:5]} now; remedy: supply vectors of length {length}"
            )
        if present.any():
            flat = column.drop_nulls().explode().to_numpy().reshape(-1, length)
            out[present] = np.where(np.isfinite(flat), flat, 0.0) / rms
        return out


def _lacks(table: pl.DataFrame, name: str, nulls: bool) -> NDArray[np.bool_]:
    """[R] whether a row says nothing of a column."""
    if name not in table.columns:
        return np.ones(table.height, bool)
    return table[name].is_null().to_numpy() if nulls else np.zeros(table.height, bool)


def numbers(column: pl.Series) -> pl.Series:
    """Dates and times as days since 1970, durations and times of day as days; others unchanged.

    Args:
        column: of a side table.
    """
    if not column.dtype.is_temporal():
        return column
    wide = pl.Duration("us") if column.dtype in (pl.Duration, pl.Time) else pl.Datetime("us")
    naive = column.dt.replace_time_zone(None) if _has_zone(column.dtype) else column
    return naive.cast(wide).to_physical().cast(pl.Float64) / _DAY


def _has_zone(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.Datetime) and dtype.time_zone is not None


def _fit_numeric(column: pl.Series) -> tuple[bool, float, float]:
    values = column.cast(pl.Float64).to_numpy()
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return False, 0.0, 1.0
    # Heavy right tails (counts, durations) squash the rest of the range when taken linearly.
    log = bool(
        values.min() >= 0 and values.max() > 20 * (np.median(values) + 1e-9) and values.max() > 20
    )
    values = np.log1p(values) if log else values
    return log, float(values.mean()), float(values.std()) or 1.0
