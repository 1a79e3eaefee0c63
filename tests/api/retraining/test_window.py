"""The cut between what is learnt from and what is judged on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.api.retraining.settings import WindowSettings
from goalrank.api.retraining.window import Window, choose_window

START = datetime(2026, 1, 1, tzinfo=UTC)


def times(minutes: list[int]) -> np.ndarray:
    plain = np.datetime64(START.replace(tzinfo=None), "us")
    return plain + np.sort(np.array(minutes, "timedelta64[m]"))


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


@given(
    st.lists(st.integers(0, 5000), min_size=1, max_size=300),
    st.integers(-10, 5000), st.integers(-10, 5000), st.floats(0.1, 100), st.floats(0.05, 0.95),
    st.integers(1, 60),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_window_is_new_to_both_and_leaves_something_to_learn(
    minutes, trained, judged, hours, most, fewest
):
    when = times(minutes)
    options = WindowSettings(hours=hours, most=most, requests=fewest)
    found = choose_window(when, options, trained=at(trained), judged=at(judged))
    if isinstance(found, str):
        return
    last = np.datetime64(at(trained).replace(tzinfo=None), "us")
    assert (when[found.known :] > last).all()
    assert (when[: found.known] <= last).all()
    assert found.known < found.start < found.end == len(when)
    assert when[found.start - 1] < when[found.start]  # one moment is on one side
    assert found.end - found.start >= fewest
    spans = found.spans(when, options)
    assert [spans[0][0], spans[-1]] == [found.known, (found.start, found.end)]
    assert all(end == start for (_, end), (start, _) in pairwise(spans))
    assert all(end - start >= fewest for start, end in spans[1:])


def test_the_window_is_the_last_day_but_never_more_than_its_share():
    hourly = times([60 * h for h in range(100)])
    day = WindowSettings(hours=24, most=0.5, requests=5)
    assert choose_window(hourly, day, trained=None, judged=None) == Window(0, 75, 100)
    late = choose_window(hourly, day, trained=at(60 * 69), judged=None)
    assert late == Window(70, 85, 100)  # 30 are new: 15 to learn from, 15 to judge on


def test_too_little_is_said_with_its_setting():
    hourly = times([60 * h for h in range(100)])
    day = WindowSettings(requests=20)
    few = choose_window(hourly, day, trained=None, judged=at(60 * 90))
    assert isinstance(few, str)
    assert "9 new requests since 2026-01-04 18:00" in few
    assert "window.requests" in few
    half = choose_window(hourly, day, trained=at(60 * 69), judged=None)
    assert isinstance(half, str)
    assert "at most 15 may be judged on" in half
    once = choose_window(times([5] * 100), WindowSettings(requests=5), trained=None, judged=None)
    assert isinstance(once, str)
    assert "all that is new, 100 requests, is of 2026-01-01" in once
    assert "nothing is left to learn from" in once


def test_a_week_is_looked_at_day_by_day():
    hourly = times([60 * h for h in range(24 * 8)])
    window = choose_window(
        hourly,
        WindowSettings(hours=24, most=0.9, requests=10),
        trained=at(24 * 60 - 1),
        judged=None,
    )
    assert isinstance(window, Window)
    sizes = [end - start for start, end in window.spans(hourly, WindowSettings(requests=10))]
    assert sizes[-1] == 25  # 24 hours back, both ends
    assert sizes[1:-1] == [24] * 5
    assert sum(sizes) == 24 * 7
