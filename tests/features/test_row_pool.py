"""The latest rows of users against plain lists."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.features import RowPool
from goalrank.features.online import blocks

ONE, TWO, OTHER = 1, 2, 4  # OTHER keeps no row
USERS = 7
row = st.tuples(
    st.integers(0, 5), st.integers(0, 99), st.integers(0, 6), st.integers(0, 7), st.integers(0, 9)
)
batches = st.lists(st.lists(row, min_size=1, max_size=40), max_size=8)


def ties(user, item, marks):
    """Many rows of one time have one key as well; marks matter."""
    return ((user + item) % 3 * (marks & OTHER == 0)).astype(np.uint64)


def columns(rows):
    user, item, time, marks, value = (np.array(c, np.int64) for c in zip(*rows))
    return user, item, time, marks.astype(np.uint8), [value.astype(np.float32) / 2]


class Plain:
    """Rows (time, item, marks, value) per user in lists, cut after each batch."""

    def __init__(self, most):
        self.most: dict[int, int] = most
        self.rows: dict[int, list[tuple[int, int, int, int]]] = {u: [] for u in range(USERS)}

    def add(self, rows):
        for user, item, time, marks, value in rows:
            if any(marks & mark for mark, most in self.most.items() if most):
                self.rows[user].append((time, item, marks, value))
        for user, own in self.rows.items():
            key = lambda r, user=user: (r[0], (user + r[1]) % 3 * (r[2] & OTHER == 0))  # noqa: E731
            own.sort(key=key)

    def latest(self, user, mark):
        return [r for r in reversed(self.rows[user]) if r[2] & mark][: self.most[mark]]

    @property
    def kept(self):
        """Of each user, in no order."""
        found = {}
        for user, own in self.rows.items():
            last = {at for m in self.most for at in self._last(own, m)}
            found[user] = Counter(own[at] for at in last)
        return found

    def _last(self, own, mark):
        marked = [at for at, r in enumerate(own) if r[2] & mark]
        return marked[max(len(marked) - self.most[mark], 0) :]


def answers(pool, most):
    """What a pool says of all users, unknown ones among them."""
    out = {}
    for mark, count in most.items():
        real, at = pool.latest(np.arange(-1, USERS), count, mark)
        assert not real[0].any()
        assert not at[~real].any()
        for user, (some, rows) in enumerate(zip(real[1:], at[1:])):
            rows = rows[some]
            assert not some[int(some.sum()) :].any()
            out[user, mark] = list(
                zip(
                    pool.time[rows].tolist(), pool.item[rows].tolist(), pool.marks[rows].tolist(),
                    (2 * pool.values[0][rows]).tolist(),
                )
            )  # fmt: skip
    return out


@settings(max_examples=300, deadline=None)
@given(batches, st.integers(0, 9), st.integers(1, 9), st.data())
def test_the_latest_rows_of_each_mark_are_kept_in_order(parts, first, second, data):
    most = {ONE: first, TWO: second}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_PAGE", 16)  # so that pages fill, empty and serve other sizes
        patch.setattr(blocks, "_TOGETHER", 24)
        pool, plain = RowPool(1, most, ties), Plain(most)
        gone: Counter[tuple[int, int, int]] = Counter()
        for part in parts:
            dropped = pool.add(*columns(part))
            gone.update(zip(dropped.user.tolist(), dropped.item.tolist(), dropped.marks.tolist()))
            plain.add(part)
            event = data.draw(st.sampled_from(["", "", "forget", "restore"]))
            if event == "forget":
                user = data.draw(st.integers(0, 8))
                pool.remove(user)
                plain.rows[user] = []
                gone = Counter({row: n for row, n in gone.items() if row[0] != user})
            if event == "restore":
                kept, pool = pool.arrays(), RowPool(1, most, ties)
                pool.restore(kept.__getitem__)
            for (user, mark), rows in answers(pool, most).items():
                assert rows == plain.latest(user, mark)
            _check_nothing_is_lost(pool, plain, gone)


def _check_nothing_is_lost(pool, plain, gone):
    """Each row is kept or was said to be dropped, and none that must stay was dropped."""
    kept = pool.arrays()
    user = np.repeat(np.arange(len(kept["size"])), kept["size"])
    here = Counter(zip(user.tolist(), kept["item"].tolist(), kept["marks"].tolist()))
    every = Counter((u, r[1], r[2]) for u, own in plain.rows.items() for r in own)
    assert here + gone == every
    for u, own in plain.kept.items():
        needed: Counter[tuple[int, int, int]] = Counter()
        for (_, item, marks, _), n in own.items():
            needed[u, item, marks] += n
        assert needed <= here


def one_mark(rows):
    user, item, time = (np.array(c, np.int64) for c in zip(*rows))
    return user, item, time, np.full(len(user), ONE, np.uint8), [np.zeros(len(user), np.float32)]


def test_rows_that_one_mark_does_not_keep_do_not_push_out_those_of_another():
    pool = RowPool(0, {ONE: 20, TWO: 5}, ties)
    for step in range(2000):
        marks = np.array([ONE | TWO if step < 3 else ONE], np.uint8)
        pool.add(np.zeros(1, int), np.array([step]), np.array([step]), marks, [])
    real, at = pool.latest(np.zeros(1, int), 5, TWO)
    assert pool.item[at[real]].tolist() == [2, 1, 0]
    real, at = pool.latest(np.zeros(1, int), 20, ONE)
    assert pool.item[at[real]].tolist() == list(range(1999, 1979, -1))
    assert pool.rows <= (20 + 3) * 4 / 3


@pytest.mark.parametrize("batch", [1, 7, 3000])
def test_a_full_user_has_little_room_to_spare(batch):
    pool = RowPool(0, {ONE: 50}, ties)
    for begin in range(0, 6000, batch):
        item = np.arange(begin, min(begin + batch, 6000))
        pool.add(np.zeros(len(item), int), item, item, np.full(len(item), ONE, np.uint8), [])
        assert pool.rows <= 50 * 4 / 3
    real, at = pool.latest(np.zeros(1, int), 50, ONE)
    assert pool.item[at[real]].tolist() == list(range(5999, 5949, -1))


@pytest.mark.parametrize("most", [20, 50])
@pytest.mark.parametrize("events", [12, 90])
def test_rows_take_little_more_than_their_values(most, events):
    rng, users = np.random.default_rng(0), 4000
    pool = RowPool(1, {ONE: most}, ties)
    for step in range(events):
        user = rng.permutation(users)
        pool.add(*one_mark(zip(user, user, [step] * users)))
    kept = users * min(events, most)
    per_row, per_user = 4 + 8 + 1 + 4, 8 + 4 + 1 + 4
    begun = (24 * 4096 + 2**16) * per_row  # a page of each size, and what is moved at once
    assert pool.bytes <= 1.2 * kept * per_row + 1.2 * users * per_user + begun
    assert pool.rows >= kept


def test_room_that_is_left_serves_other_sizes():
    rng = np.random.default_rng(0)
    pool = RowPool(1, {ONE: 3000}, ties)
    for step in range(300):  # users come, grow at different rates and go
        user = np.sort(rng.choice(60, 20, replace=False))
        many = np.repeat(user, rng.integers(1, 200, 20))
        pool.add(*one_mark(zip(many, many, [step] * len(many))))
        pool.remove(int(rng.integers(60)))
    assert len(pool.item) <= 1.5 * pool.rows + 24 * 4096 + 2**16


def test_a_read_does_not_keep_the_arrays_from_growing():
    pool = RowPool(1, {ONE: 10}, ties)
    pool.add(*one_mark([(0, 5, 1)]))
    view = pool.item[:3]
    users = range(1, 5000)
    pool.add(*one_mark(zip(users, users, users)))
    assert view.tolist().count(5) == 1
    assert pool.item[pool.latest(np.array([0, 4999]), 1, ONE)[1][:, 0]].tolist() == [5, 4999]


def test_arrays_grow_where_they_are_also_when_a_user_gets_more_rows_at_once_than_are_kept():
    pool, rng = RowPool(1, {ONE: 50}, ties), np.random.default_rng(0)
    begun = list(map(id, pool._blocks.arrays))
    for step in range(20):
        users = np.repeat(np.arange(step * 500, step * 500 + 500), rng.integers(1, 120, 500))
        pool.add(*one_mark(zip(users, users, users)))
    assert len(pool.item) > 100_000
    assert list(map(id, pool._blocks.arrays)) == begun


def test_a_user_is_forgotten():
    pool = RowPool(1, {ONE: 4}, ties)
    pool.add(*one_mark([(0, 5, 1), (1, 6, 1)]))
    pool.remove(0)
    assert pool.size[:2].tolist() == [0, 1]
    assert 5 not in pool.item
