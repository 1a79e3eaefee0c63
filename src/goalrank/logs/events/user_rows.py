"""Statistics of users' own rows before moments, straight from a log sorted by user and time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from goalrank.features import ONE, EarlierRows, LatestRows, fixed_point
from goalrank.logs.events.arrays import Events, Ints, Longs, ragged_ranges
from goalrank.logs.events.request_points import RequestPoints
from goalrank.logs.spill.buckets import chunk_ranges
from goalrank.logs.spill.folder import Spill

__all__ = ["OwnRows", "UserRows"]

_TOGETHER = 256  # requests whose histories are looked through at once


@dataclass(frozen=True)
class OwnRows:
    """The rows of each request's user strictly before the request, as ranges of places.

    Attributes:
        start, end: [B] those of request b are the places ``start[b]:end[b]``.
    """

    start: Longs
    end: Longs


class UserRows:
    """The rows of a log that count, user by user.

    Args:
        log: rows by user and time.
        kinds: columns of ``log.values`` that are added up.
        keep: [E] rows that count; None counts all.
        sums: whether `counts` will be asked for.
        spill: room for running sums.
    """

    def __init__(
        self,
        log: Events,
        kinds: tuple[str, ...],
        keep: NDArray[np.bool_] | None,
        *,
        sums: bool,
        spill: Spill,
    ) -> None:
        self._log, self._kinds = log, kinds
        self._rows = None if keep is None else np.flatnonzero(keep)
        self._running = [
            spill.stored(f"user-sums-{number}", self._sums(kind, spill.chunk), np.int64)
            for number, kind in enumerate(kinds if sums else ())
        ]

    def _sums(self, kind: str, chunk: int) -> Iterator[Longs]:
        """Running sums of a column over the rows that count, from 0 on, piece by piece."""
        values, total = self._log.values[kind], 0
        yield np.zeros(1, np.int64)
        for part in chunk_ranges(len(values) if self._rows is None else len(self._rows), chunk):
            taken = values[part] if self._rows is None else values[self._rows[part]]
            running = np.cumsum(fixed_point(taken)) + total
            total = int(running[-1])
            yield running

    def _at(self, place: Longs) -> Longs:
        """Rows of the log at places."""
        if self._rows is None or not len(self._rows):  # none: what is there is not looked at
            return place
        return self._rows[place]

    def of(self, points: RequestPoints) -> OwnRows:
        """The rows of each request's user strictly before the request.

        Args:
            points: B requests.
        """
        start = self._log.user_start[points.user]
        end = self._log.rows_before(points.user, points.time)
        if self._rows is None:
            return OwnRows(start, end)
        return OwnRows(np.searchsorted(self._rows, start), np.searchsorted(self._rows, end))

    def counts(self, own: OwnRows) -> EarlierRows:
        """Statistics of the users' rows: [B, 1]."""
        count = own.end - own.start
        some = count > 0
        first, last = (self._time(np.where(some, p, 0)) for p in (own.start, own.end - 1))
        return EarlierRows(
            count[:, None],
            tuple(((s[own.end] - s[own.start]) / ONE)[:, None] for s in self._running),
            np.where(some, first, 0)[:, None],
            np.where(some, last, 0)[:, None],
        )

    def _time(self, place: Longs) -> Longs:
        return self._log.time[self._at(place)] if len(self._log) else np.zeros_like(place)

    def latest(self, own: OwnRows, rows: int) -> LatestRows:
        """The users' latest rows, latest first: [B, rows].

        Args:
            own: rows of B requests.
            rows: how many at most.
        """
        place = own.end[:, None] - 1 - np.arange(rows)
        real = place >= own.start[:, None]
        row = self._at(np.where(real, place, 0))
        log = self._log
        return LatestRows(
            real, log.item[row], log.time[row], tuple(log.values[kind][row] for kind in self._kinds)
        )

    def pair_counts(self, own: OwnRows, candidates: Ints) -> Longs:
        """Rows of each request's user with each candidate: [B, N].

        Args:
            own: rows of B requests.
            candidates: [B, N] codes, -1 for none.
        """
        parts = [
            self._pair_counts(own.start[p], own.end[p], candidates[p])
            for p in chunk_ranges(len(candidates), _TOGETHER)
        ]
        return np.concatenate([np.zeros((0, candidates.shape[1]), np.int64), *parts])

    def _pair_counts(self, start: Longs, end: Longs, candidates: Ints) -> Longs:
        item = self._log.item[self._at(ragged_ranges(start, end - start))]
        request = np.repeat(np.arange(len(start)), end - start)
        width = int(max(item.max(initial=0), candidates.max(initial=0))) + 1
        keys = np.sort(request * width + item)
        wanted = np.arange(len(start))[:, None] * width + candidates
        count = np.searchsorted(keys, wanted, "right") - np.searchsorted(keys, wanted, "left")
        return np.where(candidates >= 0, count, 0)
