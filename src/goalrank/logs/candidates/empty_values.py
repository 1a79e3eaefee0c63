"""Empty values of candidates: filled with means over the training requests alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import DataError
from goalrank.logs.candidates.assembly import list_column

__all__ = ["TrainingMeans", "holds_empty"]

_SCORE, _FEATURES = "candidate_score", "candidate_features"
_Numbers = NDArray[np.float32]


def holds_empty(frame: pl.DataFrame) -> bool:
    """Whether a score or a feature of a candidate is NaN."""
    return any(bool(np.isnan(_flat(frame, name)).any()) for name in _columns(frame))


class TrainingMeans:
    """Means of scores and features over training requests, so that nothing looks ahead.

    Args:
        frames: the training requests; empty values are NaN.
        features: names of the candidate features.
        dataset: named in errors.
    """

    def __init__(
        self, frames: Iterable[pl.DataFrame], features: Sequence[str], dataset: str
    ) -> None:
        self._names = {_SCORE: [_SCORE], _FEATURES: list(features)}
        self._dataset = dataset
        self._total: dict[str, NDArray[np.float64]] = {}
        self._count: dict[str, NDArray[np.int64]] = {}
        self._requests = 0
        for frame in frames:
            self._requests += frame.height
            for name in _columns(frame):
                self._take_in(name, _flat(frame, name))

    def _take_in(self, name: str, values: _Numbers) -> None:
        known = ~np.isnan(values)
        total = np.where(known, values, 0).sum(0, dtype=np.float64)
        self._total[name] = self._total.get(name, 0.0) + total
        self._count[name] = self._count.get(name, 0) + known.sum(0)

    def fill(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with means in place of NaN.

        Raises:
            DataError: a column has an empty value here and no value in the training requests.
        """
        for name in _columns(frame):
            values = _flat(frame, name)
            empty = np.isnan(values)
            if empty.any():
                self._refuse_unknown(name, empty)
                mean = self._total[name] / np.maximum(self._count[name], 1)
                filled = np.where(empty, mean.astype(np.float32), values)
                frame = frame.with_columns(_like(frame, name, filled))
        return frame

    def _refuse_unknown(self, name: str, empty: NDArray[np.bool_]) -> None:
        count = self._count.get(name, np.zeros(empty.shape[1], np.int64))
        for at in np.flatnonzero(empty.any(0) & (count == 0)):
            raise DataError(
                f"{self._dataset}: {self._names[name][at]} is empty in all {self._requests:,} training "
                f"requests, so that nothing can stand in for its empty values; remedy: leave the "
                f"column out, or fill it (options: candidate_features, columns)"
            )


def _columns(frame: pl.DataFrame) -> list[str]:
    return [name for name in (_SCORE, _FEATURES) if name in frame.columns]


def _flat(frame: pl.DataFrame, name: str) -> _Numbers:
    """Values of all candidates, [M, F]."""
    values = frame[name].explode()
    width = values.dtype.size if isinstance(values.dtype, pl.Array) else 1
    out: _Numbers = values.to_numpy().reshape(len(values), width)
    return out


def _like(frame: pl.DataFrame, name: str, values: _Numbers) -> pl.Series:
    """A list column with the lengths of another and other values."""
    flat = pl.Series(values[:, 0])
    if name == _FEATURES:
        flat = pl.Series(values, dtype=pl.Array(pl.Float32, values.shape[1]))
    return list_column(name, flat, frame[name].list.len().to_numpy())
