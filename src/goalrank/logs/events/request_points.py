"""Request points: where requests are placed in a log, and the interactions that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from goalrank.logs.events.arrays import Events, Ints, Longs, distinct, ragged_ranges

__all__ = [
    "FutureInteractions",
    "RequestPoints",
    "future_interactions",
    "place_injected",
    "place_requests",
]


@dataclass(frozen=True)
class RequestPoints:
    """B requests, sorted by time.

    Attributes:
        user: [B] codes.
        time: [B] microseconds of the request.
        end: [B] microseconds of the last row that gives the request's feedback.
        row: [B] first row of the log that belongs to the request.
    """

    user: Ints
    time: Longs
    end: Longs
    row: Longs

    def __len__(self) -> int:
        return len(self.user)

    def take(self, index: np.ndarray) -> RequestPoints:
        """Select requests.

        Args:
            index: indices or mask.
        """
        return RequestPoints(self.user[index], self.time[index], self.end[index], self.row[index])

    @classmethod
    def joined(cls, parts: Sequence[RequestPoints]) -> RequestPoints:
        """Requests of several parts, one after another."""
        return cls(
            np.concatenate([part.user for part in parts]),
            np.concatenate([part.time for part in parts]),
            np.concatenate([part.end for part in parts]),
            np.concatenate([part.row for part in parts]),
        )


@dataclass(frozen=True)
class FutureInteractions:
    """The interactions that follow each request.

    Attributes:
        rows: [B, horizon] rows of the log.
        real: [B, horizon]; False after the user's last row and for repeats of an item.
    """

    rows: Longs
    real: np.ndarray


def place_requests(log: Events, stride: int, start_fraction: float, horizon: int) -> RequestPoints:
    """Place a request every ``stride`` interactions of a user.

    A request is placed before all interactions with its timestamp: where several share one, the
    request moves back to the first of them, so that the history is strictly earlier.

    Args:
        log: interactions.
        stride: interactions per request, at least 1.
        start_fraction: share of a user's interactions before the first request, in [0, 1).
        horizon: interactions that give a request's feedback.
    """
    size = np.diff(log.user_start)
    start = np.floor(size * start_fraction).astype(np.int64)
    count = -(-np.maximum(size - start, 0) // stride)
    rows = _every(log.user_start[:-1] + start, count, stride)
    return _at_rows(log, rows, horizon)


def place_injected(log: Events, positives: int, start_fraction: float) -> RequestPoints:
    """Place requests every ``positives`` interactions of a user, counted from the last one.

    Args:
        log: interactions.
        positives: interactions per request, which also give its feedback.
        start_fraction: share of a user's interactions before the first request, in [0, 1).
    """
    size = np.diff(log.user_start)
    start = np.floor(size * start_fraction).astype(np.int64)
    count = np.maximum(size - start, 0) // positives
    rows = _every(log.user_start[1:] - count * positives, count, positives)
    return _at_rows(log, rows, positives)


def _every(first: Longs, count: Longs, step: int) -> Longs:
    """Rows ``first + step * k`` for k below ``count``, one run after another."""
    return np.repeat(first, count) + step * ragged_ranges(np.zeros_like(count), count)


def _at_rows(log: Events, rows: Longs, horizon: int) -> RequestPoints:
    rows = distinct(log.rows_before(log.user[rows], log.time[rows]))  # the first of a tie
    rows = rows[rows > log.user_start[log.user[rows]]]  # a request needs a history
    rows = rows[np.lexsort((log.user[rows], log.time[rows]))]
    last = np.minimum(rows + horizon, log.user_start[log.user[rows] + 1]) - 1
    return RequestPoints(log.user[rows], log.time[rows], log.time[last], rows)


def future_interactions(log: Events, points: RequestPoints, horizon: int) -> FutureInteractions:
    """Find the next interactions of each request's user.

    Args:
        log: interactions.
        points: B requests.
        horizon: interactions per request.
    """
    rows = points.row[:, None] + np.arange(horizon)
    real = rows < log.user_start[points.user + 1][:, None]
    rows = np.minimum(rows, len(log) - 1)
    items = np.where(real, log.item[rows], -1)
    order = np.argsort(items, axis=1, kind="stable")
    ordered = np.take_along_axis(items, order, axis=1)
    repeat = np.zeros_like(real)
    repeat[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    is_repeat = np.empty_like(repeat)
    np.put_along_axis(is_repeat, order, repeat, axis=1)
    return FutureInteractions(rows, real & ~is_repeat)
