"""Exact point-in-time sums over the rows of a group strictly before a moment.

Sums use 64-bit fixed point, so that they do not depend on other groups or later rows, not even in
the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from goalrank.features import ONE, EarlierRows, fixed_point
from goalrank.logs.events.arrays import Longs, distinct

__all__ = ["PastSums"]

_MANY = 1 << 16  # queries from which sorting them saves time


class PastSums:
    """Cumulative sums by group and time. Costs one sort of E rows; a query is a binary search.

    Args:
        group: [E] group keys (any int64).
        time: [E] microseconds.
        values: arrays [E] with values in [-1e6, 1e6].
        integers: arrays [E] of whole numbers, which are added up as they are.
    """

    def __init__(
        self,
        group: NDArray[np.integer],
        time: Longs,
        values: Sequence[NDArray[np.float32]] = (),
        integers: Sequence[Longs] = (),
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
        self._sums = tuple(_cumulate(fixed_point(v[order])) for v in values)
        self._integers = tuple(_cumulate(v[order]) for v in integers)

    def _rank(self, gid: Longs, wanted: Longs) -> Longs:
        """Number of keys smaller than each key ``wanted`` of group ``gid``, in the same shape.

        Many queries are sorted by group, so that neighbouring searches read the same memory; a
        radix sort of small group numbers costs less than this saves.
        """
        if wanted.size < _MANY or len(self._groups) > np.iinfo(np.uint16).max:
            return np.searchsorted(self._keys, wanted)
        order = np.argsort(gid.astype(np.uint16), axis=None, kind="stable")
        out = np.empty(wanted.size, np.int64)
        out[order] = np.searchsorted(self._keys, wanted.ravel()[order])
        return out.reshape(wanted.shape)

    def before(self, group: NDArray[np.integer], time: Longs) -> EarlierRows:
        """Statistics over the rows of a group strictly before a time.

        Args:
            group: [Q] or [B, N] keys; unknown keys have no rows.
            time: [Q] or [B] microseconds.
        """
        index = np.searchsorted(self._groups, group)
        gid = np.minimum(index, max(0, len(self._groups) - 1))
        known = self._groups[gid] == group if len(self._groups) else np.zeros(group.shape, bool)
        start = self._start[gid]
        moment = np.searchsorted(self._moments, time)
        moment = moment[:, None] if group.ndim > time.ndim else moment
        end = self._rank(gid, gid.astype(np.int64) * self._width + moment)
        end = np.where(known, end, start)
        count = end - start
        some = count > 0
        return EarlierRows(
            count=count,
            sums=tuple((c[end] - c[start]) / ONE for c in self._sums),
            first_time=np.where(some, self._times[start], 0),
            last_time=np.where(some, self._times[end - 1], 0),
            integers=tuple(c[end] - c[start] for c in self._integers),
        )


def _cumulate(values: Longs) -> Longs:
    return np.concatenate([[0], np.cumsum(values)])
