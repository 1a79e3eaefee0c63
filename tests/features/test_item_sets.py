"""Sets of items per user against sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.features import ItemSets
from goalrank.features.online import blocks

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 60)), min_size=1, max_size=60)


def said(sets):
    place, item = sets.items_of(np.arange(-1, 8))
    return {user: set(item[place == user + 1].tolist()) for user in range(-1, 8)}


@settings(max_examples=200, deadline=None)
@given(st.lists(pairs, max_size=6), st.data())
def test_sets_are_those_of_all_pairs(parts, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_PAGE", 16)
        patch.setattr(blocks, "_TOGETHER", 24)
        sets = ItemSets()
        plain: dict[int, set[int]] = {user: set() for user in range(-1, 8)}
        for part in parts:
            user, item = np.array(part).T
            sets.add(user, item)
            for each, one in part:
                plain[each].add(one)
            event = data.draw(st.sampled_from(["", "", "forget", "restore"]))
            if event == "forget":
                gone = data.draw(st.integers(0, 6))
                sets.remove(gone)
                plain[gone] = set()
            if event == "restore":
                kept, sets = sets.arrays(), ItemSets()
                sets.restore(kept.__getitem__)
            assert said(sets) == plain


def test_an_item_that_comes_again_and_again_takes_no_room():
    sets = ItemSets()
    for _ in range(3000):
        sets.add(np.zeros(8, int), np.arange(8))
    assert len(sets.items_of(np.zeros(1, int))[1]) <= 24


def test_an_item_takes_about_five_bytes():
    rng, sets, users = np.random.default_rng(0), ItemSets(), 2000
    for _ in range(200):
        sets.add(rng.permutation(users), rng.integers(0, 2**31 - 1, users))
    begun = 24 * 4096 + 2**16  # a page of each size, and what is moved at once
    assert sets.bytes <= 200 * users * 4 * 1.2 + users * 20 + begun * 4
