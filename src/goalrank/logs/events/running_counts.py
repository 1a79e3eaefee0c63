"""Counts per item of all rows before a moment, folded in as the moment moves on.

Memory holds a few numbers per item, whatever the length of the log. Sums use 64-bit fixed point, so
that they do not depend on the pieces in which rows are folded in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from goalrank.features import (
    ONE,
    DecayedRows,
    DecayedTotals,
    EarlierRows,
    HalfLife,
    fixed_point,
)
from goalrank.logs.events.arrays import Ints, Longs
from goalrank.logs.events.past_sums import PastSums
from goalrank.logs.events.time_index import TimeIndex
from goalrank.logs.spill.buckets import chunk_ranges

__all__ = ["ItemsBefore", "RunningCounts"]

_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class _Fold:
    """What is known of each item from the rows folded in."""

    count: Longs
    sums: tuple[Longs, ...]
    first_time: Longs
    last_time: Longs


@dataclass(frozen=True)
class ItemsBefore:
    """Statistics of the rows strictly before B moments.

    Attributes:
        each: of each item, [B, N].
        whole: of all items together, [B].
        decayed: half-life in hours → decayed statistics of each item, [B, N].
    """

    each: EarlierRows
    whole: EarlierRows
    decayed: dict[float, DecayedRows]


class RunningCounts:
    """Sums over the rows before each of many moments, asked in ascending order.

    Args:
        index: rows by time.
        items: I.
        columns: value columns to add up.
        half_lives: hours of further sums that decay with age.
        window: rows between the first and the last query that are looked at together.
    """

    def __init__(
        self,
        index: TimeIndex,
        items: int,
        columns: tuple[str, ...],
        *,
        half_lives: Sequence[float] = (),
        window: int = 1 << 20,
    ) -> None:
        self._index, self._columns, self._window = index, columns, window
        self._cursor = 0
        self._fold = _Fold(
            np.zeros(items, np.int64),
            tuple(np.zeros(items, np.int64) for _ in columns),
            np.full(items, _NEVER),
            np.zeros(items, np.int64),
        )
        self._totals = [0] * len(columns)
        self._decayed = [
            DecayedTotals(HalfLife(hours), items, 1 + len(columns)) for hours in half_lives
        ]

    def before(self, item: Ints, time: Longs) -> ItemsBefore:
        """Statistics of items, and of all rows, strictly before moments.

        Args:
            item: [B, N] codes, -1 for none.
            time: [B] microseconds, ascending, and no earlier than in the call before.
        """
        return _joined([self._part(item[s], time[s]) for s in self._cuts(time)])

    def _cuts(self, time: Longs) -> list[slice]:
        """Runs of queries of one epoch each, with few rows between the first and the last."""
        row = np.searchsorted(self._index.time, time)
        cuts: list[slice] = []
        start = 0
        ends = self._epoch_ends(time)
        while start < len(time) or not cuts:
            last = row[start] + self._window if len(time) else 0
            end = max(int(np.searchsorted(row, last, side="right")), start + 1)
            end = min(end, int(ends[np.searchsorted(ends, start, side="right")]))
            cuts.append(slice(start, end))
            start = end
        return cuts

    def _epoch_ends(self, time: Longs) -> Longs:
        """Where an epoch of any half-life ends among moments: positions, the last one is the end."""
        new = np.zeros(max(len(time) - 1, 0), bool)
        for totals in self._decayed:
            new |= np.diff(totals.half_life.epoch(time)) > 0
        return np.append(np.flatnonzero(new) + 1, max(len(time), 1))

    def _part(self, item: Ints, time: Longs) -> ItemsBefore:
        if len(time):
            self._advance(int(time[0]))
        index, fold = self._index, self._fold
        end = int(np.searchsorted(index.time, time[-1])) if len(time) else self._cursor
        rows = slice(self._cursor, end)
        values = [index.values[column][rows] for column in self._columns]
        weights = [
            totals.half_life.weights(index.time[rows], column)
            for totals in self._decayed
            for column in (None, *values)
        ]
        near = PastSums(index.item[rows], index.time[rows], values, weights).before(item, time)
        none = np.zeros(end - self._cursor, np.int8)
        near_all = PastSums(none, index.time[rows], values).before(
            np.zeros(len(time), np.int8), time
        )
        known = item >= 0
        safe = np.where(known, item, 0)
        far = np.where(known, fold.count[safe], 0)
        count = far + near.count
        sums = tuple(
            np.where(known, total[safe], 0) / ONE + part
            for total, part in zip(fold.sums, near.sums)
        )
        first = np.where(far > 0, fold.first_time[safe], near.first_time)
        last = np.where(near.count > 0, near.last_time, np.where(far > 0, fold.last_time[safe], 0))
        whole = EarlierRows(
            near_all.count + self._cursor,
            tuple(total / ONE + part for total, part in zip(self._totals, near_all.sums)),
            near_all.first_time,
            near_all.last_time,
        )
        decayed = self._decayed_at(item, time, near.integers)
        return ItemsBefore(EarlierRows(count, sums, first, last), whole, decayed)

    def _decayed_at(
        self, item: Ints, time: Longs, near: tuple[Longs, ...]
    ) -> dict[float, DecayedRows]:
        """Decayed sums: those folded in, and weights [B, N] of the rows since, of the same epoch."""
        moment = time[:, None]
        out = {}
        width = 1 + len(self._columns)
        for number, totals in enumerate(self._decayed):
            far = totals.at(item, moment)
            count, *sums = (
                folded + totals.half_life.at(weights, moment)
                for folded, weights in zip(far, near[number * width : (number + 1) * width])
            )
            out[totals.half_life.hours] = DecayedRows(count, tuple(sums))
        return out

    def _advance(self, moment: int) -> None:
        """Fold in the rows before a moment."""
        end = int(np.searchsorted(self._index.time, moment))
        index, fold, start = self._index, self._fold, self._cursor
        for part in chunk_ranges(end - start, self._window):
            rows = slice(part.start + start, part.stop + start)
            item, time = index.item[rows], index.time[rows]
            np.add.at(fold.count, item, 1)
            for number, column in enumerate(self._columns):
                more = fixed_point(index.values[column][rows])
                np.add.at(fold.sums[number], item, more)
                self._totals[number] += int(more.sum())
            np.minimum.at(fold.first_time, item, time)
            np.maximum.at(fold.last_time, item, time)
            self._decay(rows)
        self._cursor = max(end, start)

    def _decay(self, rows: slice) -> None:
        """Fold rows into the sums that decay, one epoch after the other."""
        for totals in self._decayed:
            epoch = totals.half_life.epoch(self._index.time[rows])
            bounds = np.append(np.flatnonzero(np.diff(epoch)) + 1, len(epoch)) + rows.start
            for start, stop in zip(np.append(rows.start, bounds[:-1]), bounds):
                part = slice(int(start), int(stop))
                values = [self._index.values[column][part] for column in self._columns]
                totals.add(self._index.item[part], self._index.time[part], [None, *values])


def _joined(parts: list[ItemsBefore]) -> ItemsBefore:
    """Statistics of consecutive queries as one."""
    return ItemsBefore(
        _joined_rows([p.each for p in parts]),
        _joined_rows([p.whole for p in parts]),
        {
            hours: DecayedRows(
                np.concatenate([p.decayed[hours].count for p in parts]),
                _joined_sums([p.decayed[hours].sums for p in parts]),
            )
            for hours in parts[0].decayed
        },
    )


def _joined_rows(parts: list[EarlierRows]) -> EarlierRows:
    def join(arrays: list[Longs]) -> Longs:
        return np.concatenate(arrays)

    return EarlierRows(
        join([p.count for p in parts]),
        _joined_sums([p.sums for p in parts]),
        join([p.first_time for p in parts]),
        join([p.last_time for p in parts]),
    )


def _joined_sums(
    parts: list[tuple[NDArray[np.float64], ...]],
) -> tuple[NDArray[np.float64], ...]:
    return tuple(np.concatenate(sums) for sums in zip(*parts, strict=True))
