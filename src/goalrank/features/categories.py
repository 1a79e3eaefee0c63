"""Categories of items: genres, tags, an author."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ItemCategories"]

Longs = NDArray[np.int64]


@dataclass(frozen=True)
class ItemCategories:
    """The categories of items, several per item or none.

    Attributes:
        start: [I + 1] those of item i are ``category[start[i]:start[i + 1]]``; items from I on have
            none.
        category: [M] numbers from 0; an item has each once.
    """

    start: Longs
    category: Longs

    @classmethod
    def from_pairs(cls, item: NDArray[np.integer], category: NDArray[np.integer]) -> ItemCategories:
        """Categories from pairs, which may come several times and in any order.

        Args:
            item: [P] codes from 0.
            category: [P] numbers from 0.
        """
        width = int(category.max(initial=0)) + 1
        keys = np.unique(item.astype(np.int64) * width + category)
        counts = np.bincount(keys // width)
        return cls(np.append(0, np.cumsum(counts)).astype(np.int64), keys % width)

    @property
    def count(self) -> int:
        """Number above all categories."""
        return int(self.category.max(initial=-1)) + 1

    def sizes(self, item: NDArray[np.integer]) -> Longs:
        """Number of categories of items, in their shape; 0 for -1 and for items beyond I.

        Args:
            item: codes, of any shape.
        """
        known = (item >= 0) & (item < len(self.start) - 1)
        safe = np.where(known, item, 0)
        if len(self.start) == 1:
            return np.zeros(item.shape, np.int64)
        return np.where(known, self.start[safe + 1] - self.start[safe], 0)

    def pairs(self, item: NDArray[np.integer]) -> tuple[Longs, Longs]:
        """All (place, category) of items, by place.

        Args:
            item: [Q] codes.

        Returns:
            Where in ``item``, and the category: [P] each.
        """
        sizes = self.sizes(item)
        place = np.repeat(np.arange(len(item)), sizes)
        first = self.start[np.where(sizes > 0, item, 0)]
        ends = np.cumsum(sizes)
        return place, self.category[
            np.repeat(first - (ends - sizes), sizes) + np.arange(int(sizes.sum()))
        ]
