"""Schedule of refits: the retriever never learns from rows after a request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from goalrank.logs.events.arrays import Longs, distinct

__all__ = ["Refits", "done_refits", "plan_refits", "refit_moments"]


@dataclass(frozen=True)
class Refits:
    """A schedule of K refits.

    Attributes:
        moments: [K] microseconds, ascending; refit k uses rows strictly before ``moments[k]``.
        row_block: [E] first refit that uses the row; K for none.
        point_block: [B] latest refit at or before the request; -1 for none.
    """

    moments: Longs
    row_block: Longs
    point_block: Longs


def plan_refits(row_time: Longs, point_time: Longs, first: int, growth: float) -> Refits:
    """Plan refits when the log has ``first`` rows, and each time it has grown by ``growth``.

    A later row never moves an earlier refit. The rows fitted in all refits are at most
    ``growth / (growth - 1)`` times the log, which is linear in its length.

    Args:
        row_time: [E] microseconds of the log's rows.
        point_time: [B] microseconds of the requests.
        first: rows at the first refit, at least 1.
        growth: factor between refits, above 1.
    """
    moments = refit_moments(np.sort(row_time), first, growth)
    return Refits(
        moments=moments,
        row_block=np.searchsorted(moments, row_time, side="right"),
        point_block=np.searchsorted(moments, point_time, side="right") - 1,
    )


def refit_moments(ordered: Longs, first: int, growth: float) -> Longs:
    """Moments of `plan_refits`: [K] microseconds, ascending, each with rows before it.

    Args:
        ordered: [E] microseconds of the log's rows, ascending.
        first: rows at the first refit, at least 1.
        growth: factor between refits, above 1.
    """
    sizes: list[int] = []
    size = float(first)
    while size < len(ordered):
        sizes.append(int(size))
        size = max(size * growth, size + 1)
    moments = distinct(ordered[sizes]) if sizes else np.array(ordered[:0])
    return moments[moments > ordered[:1]]  # the first rows may all be of one time


def done_refits(moments: Longs, times: Longs) -> tuple[int, ...]:
    """Moments of the refits that requests follow before the next one; others are skipped.

    Args:
        moments: [K] microseconds of the refits, ascending.
        times: [B] microseconds of the requests.
    """
    starts = np.searchsorted(np.sort(times), moments)
    followed = starts < np.append(starts[1:], len(times))
    return tuple(int(moment) for moment in moments[followed])
