"""Exact point-in-time sums: what was known of a group strictly before a moment.

Sums are kept in 64-bit fixed point, so they do not depend, bit for bit, on other groups or on
later rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Longs, distinct

__all__ = ["Before", "PastSums"]

_MANY = 1 << 16  # queries from which sorting them pays
_ONE = 1 << 20  # fixed point: 20 bits behind the point

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Before:
    """Answers to Q queries.

    Attributes:
        count: [Q] or [B, N] rows of the group strictly before.
        sums: alike, one array a value column.
        first_time, last_time: alike, microseconds of the group's first and of its latest earlier
            row; 0 where ``count`` is 0.
    """

    count: Longs
    sums: tuple[Doubles, ...]
    first_time: Longs
    last_time: Longs


class PastSums:
    """Cumulative sums by group and time.

    Args:
        group: [E] group keys (any int64).
        time: [E] microseconds.
        values: arrays [E], each within [-1e6, 1e6].

    Cost: one sort of E rows; a query is a binary search.
    """

    def __init__(
        self, group: NDArray[np.integer], time: Longs, values: Sequence[NDArray[np.float32]] = ()
    ) -> None:
        self._groups, gid = np.unique(group, return_inverse=True)
        self._moments = distinct(time)
        self._width = len(self._moments) + 1
        key = gid.astype(np.int64) * self._width + np.searchsorted(self._moments, time)
        order = np.argsort(key, kind="stable")
        self._keys = key[order]
        self._times = np.append(time[order], 0)
        counts = np.bincount(gid, minlength=len(self._groups))
        self._start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._sums = tuple(self._cumulate(v[order]) for v in values)

    @staticmethod
    def _cumulate(values: NDArray[np.float32]) -> Longs:
        fixed = np.rint(values.astype(np.float64) * _ONE).astype(np.int64)
        return np.concatenate([[0], np.cumsum(fixed)])

    def _rank(self, gid: Longs, wanted: Longs) -> Longs:
        """How many keys are smaller, for keys ``wanted`` of groups ``gid``, both of one shape.

        Many queries go group by group, so that neighbouring searches meet the same memory; a radix
        sort of small group numbers costs less than what that saves.
        """
        if wanted.size < _MANY or len(self._groups) > np.iinfo(np.uint16).max:
            return np.searchsorted(self._keys, wanted)
        order = np.argsort(gid.astype(np.uint16), axis=None, kind="stable")
        out = np.empty(wanted.size, np.int64)
        out[order] = np.searchsorted(self._keys, wanted.ravel()[order])
        return out.reshape(wanted.shape)

    def before(self, group: NDArray[np.integer], time: Longs) -> Before:
        """Sums over rows of ``group`` with a time strictly below ``time``.

        Args:
            group: [Q] or [B, N] keys; unknown ones have no rows.
            time: [Q] or [B] microseconds.
        """
        where = np.searchsorted(self._groups, group)
        gid = np.minimum(where, max(0, len(self._groups) - 1))
        known = self._groups[gid] == group if len(self._groups) else np.zeros(len(group), bool)
        start = self._start[gid]
        moment = np.searchsorted(self._moments, time)
        moment = moment[:, None] if group.ndim > time.ndim else moment
        end = self._rank(gid, gid.astype(np.int64) * self._width + moment)
        end = np.where(known, end, start)
        count = end - start
        some = count > 0
        return Before(
            count=count,
            sums=tuple((c[end] - c[start]) / _ONE for c in self._sums),
            first_time=np.where(some, self._times[start], 0),
            last_time=np.where(some, self._times[end - 1], 0),
        )
