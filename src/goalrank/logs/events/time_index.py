"""Rows of a log in time order, on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Events, Ints, Longs
from goalrank.logs.spill.buckets import Buckets, Records, chunk_ranges
from goalrank.logs.spill.folder import Spill

__all__ = ["TimeIndex", "index_by_time"]

_SAMPLE = 1 << 16  # times by which rows are dealt to buckets


@dataclass(frozen=True)
class TimeIndex:
    """Rows by time; those of one time are in no particular order.

    Attributes:
        time: [E] microseconds, ascending.
        item: [E] codes.
        values: column name → [E] float32.
    """

    time: Longs
    item: Ints
    values: dict[str, NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.time)


def index_by_time(
    log: Events,
    columns: tuple[str, ...],
    keep: NDArray[np.bool_] | None,
    spill: Spill,
    name: str,
) -> TimeIndex:
    """Sort rows of a log by time.

    Args:
        log: rows by user and time.
        columns: value columns to keep.
        keep: [E] rows to take; None takes all.
        spill: room for the arrays.
        name: first part of their files' names.
    """
    kinds: dict[str, Any] = {"time": np.int64, "item": np.int32}
    fields = [*kinds.items(), *((f"value {column}", np.float32) for column in columns)]
    parts = max(1, -(-len(log) // spill.chunk))
    sample = np.sort(log.time[:: max(1, len(log) // _SAMPLE)])
    cuts = sample[(np.arange(1, parts) * len(sample)) // parts]
    dealt = Buckets(spill, name, parts)
    for part in chunk_ranges(len(log), spill.chunk):
        rows = _records(log, part, fields, columns)
        rows = rows if keep is None else rows[keep[part]]
        dealt.add(rows, np.searchsorted(cuts, rows["time"], side="right"))
    files = {field: spill.array(f"{name}-{n}", kind) for n, (field, kind) in enumerate(fields)}
    for rows in dealt:
        ordered = rows[np.argsort(rows["time"])]
        for field, file in files.items():
            file.add(ordered[field])
    return TimeIndex(
        files["time"].done(),
        files["item"].done(),
        {column: files[f"value {column}"].done() for column in columns},
    )


def _records(
    log: Events, part: slice, fields: list[tuple[str, Any]], columns: tuple[str, ...]
) -> Records:
    rows = np.empty(part.stop - part.start, fields)
    rows["time"], rows["item"] = log.time[part], log.item[part]
    for column in columns:
        rows[f"value {column}"] = log.values[column][part]
    return rows
