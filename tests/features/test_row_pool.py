"""The latest rows of users against plain lists."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.features import RowPool

row = st.tuples(st.integers(0, 5), st.integers(0, 99), st.integers(0, 6), st.integers(0, 3))
batches = st.lists(st.lists(row, min_size=1, max_size=30), max_size=8)


def columns(rows):
    user, item, time, tie = (np.array(c, np.int64) for c in zip(*rows))
    return user, item, time, tie.astype(np.uint64), [item.astype(np.float32) / 2]


@settings(max_examples=200, deadline=None)
@given(batches, st.integers(1, 9))
def test_the_latest_rows_are_kept_in_order(parts, most):
    pool = RowPool(1, most)
    plain: dict[int, list[tuple[int, int, int]]] = {user: [] for user in range(7)}
    for part in parts:
        pool.add(*columns(part))
        for user, item, time, tie in part:
            plain[user].append((time, tie, item))
            plain[user].sort(key=lambda r: r[:2])
            del plain[user][:-most]
    found = pool.latest(np.arange(-1, 7), most)
    assert not found.real[0].any()
    for user, rows in plain.items():
        real = found.real[user + 1]
        assert found.item[user + 1][real].tolist() == [r[2] for r in reversed(rows)]
        assert found.time[user + 1][real].tolist() == [r[0] for r in reversed(rows)]
        assert found.values[0][user + 1][real].tolist() == [r[2] / 2 for r in reversed(rows)]


def test_room_that_blocks_leave_is_taken_back():
    rng = np.random.default_rng(0)
    pool = RowPool(1, 20)
    for step in range(300):
        user = rng.integers(0, 400, 100)
        time = np.full(100, step)
        pool.add(user, user, time, np.zeros(100, np.uint64), [np.zeros(100, np.float32)])
    assert pool.rows == 400 * 20
    assert len(pool.item) < 4 * pool.rows


def test_what_was_kept_can_be_restored():
    pool, again = RowPool(1, 4), RowPool(1, 4)
    rows = [(n % 3, n, n // 2, 0) for n in range(20)]
    pool.add(*columns(rows))
    again.restore(pool.arrays())
    more = [(n % 4, n, 0 if n % 2 else 50, 1) for n in range(10)]
    for each in (pool, again):
        each.add(*columns(more))
    for mine, other in zip(pool.arrays().values(), again.arrays().values()):
        np.testing.assert_array_equal(mine, other)


def test_a_user_is_forgotten():
    pool = RowPool(1, 4)
    pool.add(*columns([(0, 5, 1, 0), (1, 6, 1, 0)]))
    pool.remove(0)
    assert pool.size[:2].tolist() == [0, 1]
    assert 5 not in pool.item
