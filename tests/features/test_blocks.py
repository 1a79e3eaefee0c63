"""Blocks of many users: none overlap, and places that are left serve others."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from goalrank.features.online import blocks
from goalrank.features.online.blocks import Blocks, runs_of


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 5))
def test_runs_are_vacant_apart_and_as_many_as_fit(places, length):
    vacant = np.array(places, bool)
    taken = (runs_of(vacant, length)[:, None] + np.arange(length)).ravel()
    assert len(set(taken.tolist())) == len(taken)
    assert vacant[taken].all()
    text = "".join("x" if each else " " for each in places)
    assert len(taken) // length == sum(len(part) // length for part in text.split())


def test_users_that_grow_shrink_and_go_keep_their_rows(monkeypatch):
    monkeypatch.setattr(blocks, "_PAGE", 16)
    rng, users = np.random.default_rng(0), 40
    rows = Blocks((np.int64,))
    rows.grow(users)
    plain: dict[int, list[int]] = {user: [] for user in range(users)}
    for step in range(600):
        some = np.sort(rng.choice(users, 8, replace=False))
        more = rng.integers(1, 60 if step % 50 == 0 else 4, 8)
        short = rows.full(some, more)
        kept = [plain[user][-30:] for user in some[short]]  # the latest 30 stay
        plain.update(zip(some[short].tolist(), kept))
        sizes = np.array([len(each) for each in kept], np.int64)
        ends = rows.start[some[short]] + rows.size[some[short]]
        old = np.array([e - n + at for e, n in zip(ends, sizes) for at in range(n)], np.int64)
        rows.settle(some[short], old, sizes, sizes + more[short])
        new = step * 1000 + np.arange(more.sum())
        rows.arrays[0][rows.append(some, more)] = new
        for user, part in zip(some.tolist(), np.split(new, np.cumsum(more)[:-1])):
            plain[user] += part.tolist()
        gone = int(rng.integers(users))
        if step % 3 == 0:
            rows.remove(gone)
            plain[gone] = []
        for user, own in plain.items():
            assert rows.arrays[0][rows.rows_of(np.array([user]))].tolist() == own
    assert len(rows.arrays[0]) < 3 * rows.rows
