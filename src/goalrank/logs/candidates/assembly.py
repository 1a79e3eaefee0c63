"""Assembly of the requests table: flat arrays become list columns without a loop over rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from goalrank.logs.candidates.pending import PendingRequests
from goalrank.logs.events.arrays import Codes, Events, Longs, ragged_ranges
from goalrank.logs.events.request_points import RequestPoints
from goalrank.requests import TIME

__all__ = ["RequestNumbers", "assemble"]


def list_column(name: str, values: pl.Series, lengths: NDArray[np.integer]) -> pl.Series:
    """A column of lists.

    Args:
        name: of the column.
        values: of all lists, one after the other.
        lengths: of the lists.
    """
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    array = pa.LargeListArray.from_arrays(pa.array(offsets), values.to_arrow())
    return pl.Series(name, array)


def _timestamps(values: Longs) -> pl.Series:
    return pl.Series(values).cast(TIME)


def assemble(
    pending: PendingRequests,
    number: Longs,
    history: Events,
    log: Events,
    kinds: tuple[str, ...],
    *,
    users: Codes,
    items: Codes,
    depth: int,
    strength: str,
) -> pl.DataFrame:
    """Make the frame of a requests table, rows in the order of ``pending``.

    Args:
        pending: B requests.
        number: [B] earlier requests of the same user and moment, for names where the log has none.
        history: consumed items; a request gets its user's last ``depth`` strictly before it.
        log: rows that ``pending.log_row`` refers to; its values are the feedback.
        kinds: feedback columns of ``log.values``.
        users: codes of users.
        items: codes of items.
        depth: H.
        strength: column of ``history.values`` for history_feedback.
    """
    points = pending.points
    end = history.rows_before(points.user, points.time)
    lengths = np.minimum(end - history.user_start[points.user], depth)
    rows = ragged_ranges(end - lengths, lengths)
    real = pending.candidates >= 0
    count = real.sum(axis=1)
    shown = pending.position >= 0
    shown_count = shown.sum(axis=1)
    log_rows = pending.log_row[shown]
    user_ids = users.ids.gather(points.user)
    label = None if log.carried is None else log.carried.get_column("request_label", default=None)
    columns = [
        _request_ids(user_ids, points.time, number)
        if label is None
        else label.gather(points.row).rename("request_id"),
        user_ids.rename("user_id"),
        _timestamps(points.time).rename("time"),
        list_column("history", items.ids.gather(history.item[rows]), lengths),
        list_column("history_feedback", pl.Series(history.values[strength][rows]), lengths),
        list_column("history_time", _timestamps(history.time[rows]), lengths),
        list_column("candidates", items.ids.gather(pending.candidates[real]), count),
    ]
    if pending.score is not None:
        columns.append(list_column("candidate_score", pl.Series(pending.score[real]), count))
    if pending.features:
        flat = np.stack([values[real] for values in pending.features.values()], axis=1)
        vectors = pl.Series(flat, dtype=pl.Array(pl.Float32, flat.shape[1]))
        columns.append(list_column("candidate_features", vectors, count))
    columns.append(list_column("shown", pl.Series(pending.position[shown]), shown_count))
    feedback = [list_column(k, pl.Series(log.values[k][log_rows]), shown_count) for k in kinds]
    frame = pl.DataFrame(columns).with_columns(pl.DataFrame(feedback).to_struct("feedback"))
    return frame.with_columns(_carried(log, points.row, log_rows, shown_count))


def _carried(
    log: Events, row: Longs, log_rows: Longs, shown_count: NDArray[np.integer]
) -> list[pl.Series]:
    """Columns of propensities, policy and experiment, as the log has them."""
    if log.carried is None:
        return []
    carried = log.carried
    out = [
        carried[name].gather(row).rename(name)
        for name in ("policy", "experiment")
        if name in carried.columns
    ]
    if "slot_propensity" in carried.columns:
        each = list_column(
            "slot_propensity", carried["slot_propensity"].gather(log_rows), shown_count
        )
        out.append(each)
        if "propensity" not in carried.columns:
            product = each.list.eval(pl.element().product()).list.first()
            out.append(product.alias("propensity"))
    if "propensity" in carried.columns:
        out.append(carried["propensity"].gather(row).rename("propensity"))
    return out


def _request_ids(user_ids: pl.Series, time: Longs, number: Longs) -> pl.Series:
    """Ids ``user@microseconds``, with a number where a user has several requests at one moment."""
    frame = pl.DataFrame({"user": user_ids.cast(pl.String), "time": time, "number": number})
    name = pl.format("{}@{}", "user", "time")
    several = pl.format("{}-{}", name, "number")
    return frame.select(request_id=pl.when(pl.col("number") > 0).then(several).otherwise(name))[
        "request_id"
    ]


class RequestNumbers:
    """Numbers of requests of one user at one moment, over requests that come in order of time."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None
        self._count = 0

    def of(self, points: RequestPoints) -> Longs:
        """Earlier requests of the same user and moment: [B].

        Args:
            points: B requests by time and user, none earlier than in the call before.
        """
        if not len(points):
            return np.zeros(0, np.int64)
        same = (points.user[1:] == points.user[:-1]) & (points.time[1:] == points.time[:-1])
        row = np.arange(len(points))
        start = np.maximum.accumulate(np.where(np.append(False, same), 0, row))
        number = row - start
        if self._last == (int(points.user[0]), int(points.time[0])):
            number[start == 0] += self._count
        self._last = (int(points.user[-1]), int(points.time[-1]))
        self._count = int(number[-1]) + 1
        return number
