"""Counts of cells that two sides should have alike, and the first ones that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CellCounts", "ColumnCount", "Difference", "Floats"]

Floats = NDArray[np.float32]
_TOLERANCE = 1e-6
_FIRST = 20  # cells that are kept


@dataclass(frozen=True)
class ColumnCount:
    """Cells of one column.

    Attributes:
        name: of a column of the requests table, or of a candidate feature.
        compared: number of cells.
        different: those that differ by more than 10⁻⁶, or that one side lacks.
        largest: the largest difference of two numbers.
    """

    name: str
    compared: int
    different: int
    largest: float


@dataclass(frozen=True)
class Difference:
    """A cell that differs.

    Attributes:
        request_id: the request.
        column: name of the column or feature.
        item: the candidate, or the place in the history.
        imported: value of the import; None where it has none.
        served: value of the server; None where it has none.
    """

    request_id: str
    column: str
    item: Any
    imported: Any
    served: Any


class CellCounts:
    """Counts cells per column.

    Args:
        features: names of the candidate features.
    """

    def __init__(self, features: Sequence[str]) -> None:
        self._features = tuple(features)
        self._compared: dict[str, int] = {}
        self._different: dict[str, int] = {}
        self._largest: dict[str, float] = {}
        self._first: list[Difference] = []

    @property
    def result(self) -> tuple[tuple[ColumnCount, ...], tuple[Difference, ...]]:
        """Counts per column, in the order in which columns came, and the first differences."""
        counts = (
            ColumnCount(name, count, self._different[name], self._largest[name])
            for name, count in self._compared.items()
        )
        return tuple(counts), tuple(self._first)

    def lists(
        self, column: str, request: str, imported: Sequence[Any], served: Sequence[Any]
    ) -> None:
        """Compare two lists place by place.

        Args:
            column: name.
            request: id.
            imported: of the import.
            served: of the server.
        """
        places = enumerate(zip_longest(imported, served))
        self._cells(column, request, [(place, mine, other) for place, (mine, other) in places])

    def items(
        self, column: str, request: str, imported: Mapping[Any, float], served: Mapping[Any, float]
    ) -> None:
        """Compare numbers of items, in any order.

        Args:
            column: name.
            request: id.
            imported: item → number, of the import.
            served: item → number, of the server.
        """
        items = dict.fromkeys([*imported, *served])
        cells = [(item, imported.get(item), served.get(item)) for item in items]
        self._cells(column, request, cells)

    def features(
        self,
        request: str,
        items: Sequence[Any],
        imported: Floats,
        served: Floats,
        known: NDArray[np.bool_],
    ) -> None:
        """Compare features of candidates.

        Args:
            request: id.
            items: [N] candidates.
            imported: [N, F] of the import.
            served: [N, F] of the server.
            known: [F] whether the server can know a feature at the request's time.
        """
        apart = np.abs(imported.astype(np.float64) - served)
        other = ~(apart <= _TOLERANCE)  # also where one is no number
        other &= ~(np.isnan(imported) & np.isnan(served))
        for number in np.flatnonzero(known):
            column, wrong = self._features[number], np.flatnonzero(other[:, number])
            self._count(
                column, len(items), len(wrong), float(np.nanmax(apart[:, number], initial=0.0))
            )
            self._keep(request, column, [
                (items[row], float(imported[row, number]), float(served[row, number]))
                for row in wrong[:_FIRST]
            ])  # fmt: skip

    def _cells(self, column: str, request: str, cells: Sequence[tuple[Any, Any, Any]]) -> None:
        apart = [_apart(imported, served) for _, imported, served in cells]
        wrong = [cell for cell, by in zip(cells, apart) if by is None or not by <= _TOLERANCE]
        largest = max((by for by in apart if by is not None), default=0.0)
        self._count(column, len(cells), len(wrong), largest)
        self._keep(request, column, wrong)

    def _count(self, column: str, compared: int, different: int, largest: float) -> None:
        self._compared[column] = self._compared.get(column, 0) + compared
        self._different[column] = self._different.get(column, 0) + different
        self._largest[column] = max(self._largest.get(column, 0.0), largest)

    def _keep(self, request: str, column: str, wrong: Sequence[tuple[Any, Any, Any]]) -> None:
        room = _FIRST - len(self._first)
        self._first += [Difference(request, column, *cell) for cell in wrong[:room]]


def _apart(imported: Any, served: Any) -> float | None:
    """How far two cells are apart; None where they are no numbers and differ."""
    if imported == served:
        return 0.0
    numbers = isinstance(imported, float) and isinstance(served, float)
    return abs(imported - served) if numbers else None
