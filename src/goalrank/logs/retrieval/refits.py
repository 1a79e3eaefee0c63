"""When the retriever is refitted, so that it never sees what lies after a request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from goalrank.logs.events.arrays import Longs, distinct

__all__ = ["Refits", "plan_refits"]


@dataclass(frozen=True)
class Refits:
    """K refits.

    Attributes:
        moments: [K] microseconds, ascending; refit k sees rows strictly before ``moments[k]``.
        row_block: [E] the first refit that sees the row (K: none does).
        point_block: [B] the latest refit at or before the request; -1: none yet.
    """

    moments: Longs
    row_block: Longs
    point_block: Longs


def plan_refits(row_time: Longs, point_time: Longs, first: int, growth: float) -> Refits:
    """Refit when the log has ``first`` rows, then each time it has grown by ``growth``.

    The schedule looks only backwards (a later row never moves an earlier refit), and the rows
    fitted sum to at most ``growth / (growth - 1)`` times the log: linear in its length.
    """
    ordered = np.sort(row_time)
    sizes: list[int] = []
    size = float(first)
    while size < len(ordered):
        sizes.append(int(size))
        size = max(size * growth, size + 1)
    moments = distinct(ordered[sizes]) if sizes else ordered[:0]
    return Refits(
        moments=moments,
        row_block=np.searchsorted(moments, row_time, side="right"),
        point_block=np.searchsorted(moments, point_time, side="right") - 1,
    )
