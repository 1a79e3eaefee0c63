"""Where requests are placed in a log of interactions, and what they are judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from goalrank.logs.events.arrays import Events, Ints, Longs, distinct

__all__ = ["RequestPoints", "Truth", "future_of", "place_injected", "place_requests"]


@dataclass(frozen=True)
class RequestPoints:
    """B requests, by time.

    Attributes:
        user: [B] codes.
        time: [B] microseconds: when the list is asked for.
        end: [B] microseconds of the last row that the request's feedback comes from.
        row: [B] the request's first own row in the log.
    """

    user: Ints
    time: Longs
    end: Longs
    row: Longs

    def __len__(self) -> int:
        return len(self.user)

    def take(self, index: np.ndarray) -> RequestPoints:
        return RequestPoints(self.user[index], self.time[index], self.end[index], self.row[index])


@dataclass(frozen=True)
class Truth:
    """What came next: [B, horizon] rows of the log, and which of them are real.

    ``real`` is False beyond the user's last row and where an item repeats within the horizon.
    """

    rows: Longs
    real: np.ndarray


def place_requests(log: Events, stride: int, start_fraction: float, horizon: int) -> RequestPoints:
    """A request every ``stride`` interactions, from ``start_fraction`` of each user's log on.

    A request stands before all interactions of its moment: where several share a timestamp,
    it moves back to the first of them, so that the history is strictly earlier than the request.
    """
    number = np.arange(len(log), dtype=np.int64) - log.user_start[log.user]
    start = np.floor(np.diff(log.user_start) * start_fraction).astype(np.int64)[log.user]
    return _at_rows(
        log, np.flatnonzero((number >= start) & ((number - start) % stride == 0)), horizon
    )


def place_injected(log: Events, positives: int, start_fraction: float) -> RequestPoints:
    """Requests before each user's last ``positives`` interactions, and so on backwards."""
    left = log.user_start[log.user + 1] - np.arange(len(log), dtype=np.int64)
    number = np.arange(len(log), dtype=np.int64) - log.user_start[log.user]
    start = np.floor(np.diff(log.user_start) * start_fraction)[log.user]
    rows = np.flatnonzero((left % positives == 0) & (number >= start))
    return _at_rows(log, rows, positives)


def _at_rows(log: Events, rows: Longs, horizon: int) -> RequestPoints:
    new = np.ones(len(log), dtype=bool)
    new[1:] = (log.user[1:] != log.user[:-1]) | (log.time[1:] != log.time[:-1])
    tie_start = np.maximum.accumulate(np.where(new, np.arange(len(log)), 0))
    rows = distinct(tie_start[rows])
    rows = rows[rows > log.user_start[log.user[rows]]]  # a request needs a history
    rows = rows[np.lexsort((log.user[rows], log.time[rows]))]
    last = np.minimum(rows + horizon, log.user_start[log.user[rows] + 1]) - 1
    return RequestPoints(log.user[rows], log.time[rows], log.time[last], rows)


def future_of(log: Events, points: RequestPoints, horizon: int) -> Truth:
    """The next ``horizon`` interactions of each request's user, from the request on."""
    rows = points.row[:, None] + np.arange(horizon)
    real = rows < log.user_start[points.user + 1][:, None]
    rows = np.minimum(rows, len(log) - 1)
    items = np.where(real, log.item[rows], -1)
    order = np.argsort(items, axis=1, kind="stable")
    ordered = np.take_along_axis(items, order, axis=1)
    repeat = np.zeros_like(real)
    repeat[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    again = np.empty_like(repeat)
    np.put_along_axis(again, order, repeat, axis=1)
    return Truth(rows, real & ~again)
