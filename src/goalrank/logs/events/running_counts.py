"""Counts per item of all rows before a moment, folded in as the moment moves on.

Memory holds a few numbers per item, whatever the length of the log. Sums use 64-bit fixed point, so
that they do not depend on the pieces in which rows are folded in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Ints, Longs
from goalrank.logs.events.past_sums import ONE, EarlierRows, PastSums, fixed_point
from goalrank.logs.events.time_index import TimeIndex
from goalrank.logs.spill.buckets import chunk_ranges

__all__ = ["RunningCounts"]

_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class _Fold:
    """What is known of each item from the rows folded in."""

    count: Longs
    sums: tuple[Longs, ...]
    first_time: Longs
    last_time: Longs


class RunningCounts:
    """Sums over the rows before each of many moments, asked in ascending order.

    Args:
        index: rows by time.
        items: I.
        columns: value columns to add up.
        window: rows between the first and the last query that are looked at together.
    """

    def __init__(
        self, index: TimeIndex, items: int, columns: tuple[str, ...], *, window: int = 1 << 20
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

    def before(self, item: Ints, time: Longs) -> tuple[EarlierRows, EarlierRows]:
        """Statistics of items, and of all rows, strictly before moments.

        Args:
            item: [B, N] codes, -1 for none.
            time: [B] microseconds, ascending, and no earlier than in the call before.

        Returns:
            Those of each item [B, N], and those of all items together [B].
        """
        cuts = self._cuts(time)
        parts = [self._part(item[s], time[s]) for s in cuts]
        each, whole = zip(*parts, strict=True)
        return _joined(each), _joined(whole)

    def _cuts(self, time: Longs) -> list[slice]:
        """Runs of queries with few rows between the first and the last."""
        row = np.searchsorted(self._index.time, time)
        cuts: list[slice] = []
        start = 0
        while start < len(time) or not cuts:
            last = row[start] + self._window if len(time) else 0
            end = max(int(np.searchsorted(row, last, side="right")), start + 1)
            cuts.append(slice(start, end))
            start = end
        return cuts

    def _part(self, item: Ints, time: Longs) -> tuple[EarlierRows, EarlierRows]:
        if len(time):
            self._advance(int(time[0]))
        index, fold = self._index, self._fold
        end = int(np.searchsorted(index.time, time[-1])) if len(time) else self._cursor
        rows = slice(self._cursor, end)
        values = [index.values[column][rows] for column in self._columns]
        near = PastSums(index.item[rows], index.time[rows], values).before(item, time)
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
        return EarlierRows(count, sums, first, last), whole

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
        self._cursor = max(end, start)


def _joined(parts: tuple[EarlierRows, ...]) -> EarlierRows:
    """Statistics of consecutive queries as one."""

    def join(arrays: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        return np.concatenate(arrays)

    return EarlierRows(
        join([p.count for p in parts]),
        tuple(np.concatenate(sums) for sums in zip(*(p.sums for p in parts), strict=True)),
        join([p.first_time for p in parts]),
        join([p.last_time for p in parts]),
    )
