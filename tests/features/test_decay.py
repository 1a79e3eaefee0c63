"""Decayed sums against a loop over rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.features import DecayedTotals, HalfLife

HOUR = 3_600_000_000
rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(-400, 400), st.floats(0, 1, width=32)), max_size=40
)


def plain(log, key, now, hours):
    """Decayed count and sum of a key's rows."""
    ages = [(now - t, v) for k, t, v in log if k == key]
    weights = [(2.0 ** (-age / hours), v) for age, v in ages]
    return sum(w for w, _ in weights), sum(w * v for w, v in weights)


@settings(max_examples=150, deadline=None)
@given(rows, st.sampled_from([0.5, 24.0, 168.0]), st.integers(1, 4), st.integers(0, 5000))
def test_sums_are_those_of_all_rows_in_any_order_and_pieces(log, hours, pieces, later):
    totals = DecayedTotals(HalfLife(hours), 4, 2)
    for part in np.array_split(np.arange(len(log)), pieces):
        keys = np.array([log[i][0] for i in part], np.int64)
        times = np.array([log[i][1] for i in part], np.int64) * HOUR
        totals.add(keys, times, [None, np.array([log[i][2] for i in part], np.float32)])
    now = max((t for _, t, _ in log), default=0) + later
    count, total = totals.at(np.arange(4), np.full(4, now * HOUR))
    for key in range(4):
        assert (count[key], total[key]) == pytest.approx(plain(log, key, now, hours), abs=1e-7)


def test_nobody_has_nothing():
    totals = DecayedTotals(HalfLife(24.0), 1, 1)
    totals.add(np.array([0]), np.array([5 * HOUR]), [None])
    totals.grow(3)
    assert totals.at(np.array([-1, 0, 2]), np.full(3, 29 * HOUR)).tolist() == [
        [0.0, pytest.approx(0.5), 0.0]
    ]


def test_a_key_that_rests_for_ages_comes_to_nothing():
    totals = DecayedTotals(HalfLife(1.0), 1, 1)
    totals.add(np.array([0]), np.array([0]), [None])
    totals.add(np.array([0]), np.array([10**9 * HOUR // 10**3]), [None])
    assert totals.at(np.array([0]), np.array([10**6 * HOUR]))[0, 0] == pytest.approx(1.0)
