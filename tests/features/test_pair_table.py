"""Counts of pairs against a counter."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from goalrank.features.online import pair_table
from goalrank.features.online.pair_table import PairTable

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=20)


@given(st.lists(pairs, max_size=6))
def test_counts_are_those_of_all_pairs(parts):
    table = PairTable()
    plain: Counter[tuple[int, int]] = Counter()
    for part in parts:
        user, item = np.array(part).T
        table.add(user, item)
        plain.update(part)
    user, item = np.arange(-1, 6)[:, None], np.arange(-1, 8)
    found = table.count(user, item)
    for row, u in enumerate(range(-1, 6)):
        assert found[row].tolist() == [plain[u, i] for i in range(-1, 8)]
    assert len(table) == len(plain)


def test_many_new_pairs_are_merged_and_a_user_goes(monkeypatch):
    monkeypatch.setattr(pair_table, "_NEW", 10)
    table = PairTable()
    for item in range(50):
        table.add(np.array([1, 2]), np.array([item, item]))
    table.remove(1)
    assert table.count(np.array([1, 2]), np.array([3, 3])).tolist() == [0, 1]
    assert len(table) == 50
