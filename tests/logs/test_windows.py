"""Windows of exposures against a loop."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.logs.events.windows import cut_windows
from goalrank.logs.options import ImportOptions
from tests.logs.plain_arrays import build_events, fit_codes, time_order

MINUTE = 60_000_000
log_rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 60)), min_size=1, max_size=60
)


def build(rows):
    frame = time_order(
        pl.DataFrame(
            {
                "user_id": [r[0] for r in rows],
                "item_id": [r[1] for r in rows],
                "time": [r[2] * MINUTE for r in rows],
            }
        )
    )
    users = fit_codes(frame["user_id"], frame["time"])
    items = fit_codes(frame["item_id"], frame["time"])
    return build_events(frame, users, items, ()), users, items


def by_loop(events, gap, span, most, least):
    found: list[Any] = []
    current: list[Any] = []

    def close():
        kept, seen = [], set()
        for row in current:
            if events.item[row] not in seen:
                seen.add(events.item[row])
                kept.append(row)
        if len(kept) >= least:
            found.append(tuple(kept))

    for row in range(len(events)):
        if current and (
            events.user[row] != events.user[current[0]]
            or events.time[row] - events.time[current[-1]] > gap * MINUTE
            or events.time[row] - events.time[current[0]] > span * MINUTE
            or len(current) == most
        ):
            close()
            current = []
        current.append(row)
    close()
    return found


@settings(max_examples=150, deadline=None)
@given(log_rows, st.integers(1, 12), st.integers(1, 30), st.integers(2, 6), st.integers(1, 3))
def test_windows_equal_the_loop(rows, gap, span, most, least):
    events, _, _ = build(rows)
    options = ImportOptions(
        min_list=min(least, most), max_list=most, max_gap_minutes=float(gap),
        max_span_minutes=float(span),
    )  # fmt: skip
    windows = cut_windows(events, options)
    points, flat, offsets = windows.points, windows.rows, windows.offsets
    got = [tuple(flat[a:b].tolist()) for a, b in pairwise(offsets)]
    assert sorted(got) == sorted(by_loop(events, gap, span, most, min(least, most)))
    assert (np.diff(points.time) >= 0).all()
    for k, window in enumerate(got):
        assert points.time[k] <= events.time[window[0]]
        assert points.end[k] == events.time[window[-1]]
        assert points.user[k] == events.user[window[0]]


def test_request_ids_decide_where_they_exist():
    events, _, _ = build([(0, i, 0) for i in range(6)])
    options = ImportOptions(min_list=2, max_list=50)
    offsets = cut_windows(events, options, np.array([1, 1, 1, 2, 2, 3])).offsets
    assert np.diff(offsets).tolist() == [3, 2]
