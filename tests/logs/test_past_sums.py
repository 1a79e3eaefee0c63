"""Sums over the past against a loop over rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.logs.events.past_sums import PastSums

rows = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 12), st.floats(-5, 5, width=32)), max_size=40
)
queries = st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 14)), min_size=1, max_size=15)


@settings(max_examples=150, deadline=None)
@given(rows, queries)
def test_sums_are_those_of_strictly_earlier_rows(log, asked):
    group = np.array([r[0] for r in log], dtype=np.int64)
    time = np.array([r[1] for r in log], dtype=np.int64)
    value = np.array([r[2] for r in log], dtype=np.float32)
    got = PastSums(group, time, [value]).before(
        np.array([q[0] for q in asked]), np.array([q[1] for q in asked])
    )
    for k, (g, t) in enumerate(asked):
        mine = [(r[1], float(np.float32(r[2]))) for r in log if r[0] == g and r[1] < t]
        assert got.count[k] == len(mine)
        assert np.isclose(got.sums[0][k], sum(v for _, v in mine), atol=1e-4)
        if mine:
            assert got.first_time[k] == min(m for m, _ in mine)
            assert got.last_time[k] == max(m for m, _ in mine)


def test_two_dimensional_queries_share_the_request_time():
    past = PastSums(np.array([0, 0, 1]), np.array([1, 2, 1]))
    got = past.before(np.array([[0, 1], [1, 0]]), np.array([2, 3]))
    assert got.count.tolist() == [[1, 1], [1, 2]]


def test_sums_do_not_depend_on_other_groups_bit_for_bit():
    rng = np.random.default_rng(0)
    value = rng.random(50).astype(np.float32)
    alone = PastSums(np.ones(50, int), np.arange(50), [value]).before(np.array([1]), np.array([49]))
    noise = rng.random(500).astype(np.float32) * 1000
    among = PastSums(
        np.concatenate([np.ones(50, int), np.zeros(500, int)]),
        np.concatenate([np.arange(50), np.arange(500)]),
        [np.concatenate([value, noise])],
    ).before(np.array([1]), np.array([49]))
    assert alone.sums[0][0] == among.sums[0][0]


def test_many_queries_at_once_equal_few_queries():
    rng = np.random.default_rng(1)
    past = PastSums(rng.integers(0, 30, 500), rng.integers(0, 90, 500), [rng.random(500)])  # type: ignore[list-item]
    group, time = rng.integers(-1, 33, (3000, 30)), rng.integers(0, 99, 3000)
    whole = past.before(group, time)
    for rows in np.array_split(np.arange(len(time)), 6):
        part = past.before(group[rows], time[rows])
        for name in ("count", "first_time", "last_time"):
            assert np.array_equal(getattr(whole, name)[rows], getattr(part, name))
        assert np.array_equal(whole.sums[0][rows], part.sums[0])
