"""Categories of items."""

from __future__ import annotations

import numpy as np

from goalrank.features import ItemCategories


def test_pairs_come_by_place_and_each_once():
    made = ItemCategories.from_pairs(np.array([2, 0, 2, 2]), np.array([1, 3, 0, 1]))
    place, category = made.pairs(np.array([2, -1, 1, 0, 9, 2]))
    assert place.tolist() == [0, 0, 3, 5, 5]
    assert category.tolist() == [0, 1, 3, 0, 1]
    assert made.sizes(np.array([[2, 1], [-1, 9]])).tolist() == [[2, 0], [0, 0]]
    assert made.count == 4


def test_no_item_has_any():
    none = ItemCategories.from_pairs(np.zeros(0, np.int64), np.zeros(0, np.int64))
    place, category = none.pairs(np.array([0, -1]))
    assert len(place) == len(category) == none.count == 0
