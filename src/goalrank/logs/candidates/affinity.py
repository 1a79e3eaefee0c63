"""Affinity of a user's history to the categories of items, a linked feature."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.features import ItemCategories
from goalrank.logs.events.arrays import Codes
from goalrank.logs.retrieval.channel import Chunk
from goalrank.logs.retrieval.sparse import load_sparse

__all__ = ["Affinity", "item_categories"]

Floats = NDArray[np.float32]


def item_categories(items: pl.DataFrame, column: str, codes: Codes) -> ItemCategories:
    """Categories of items from a side table.

    Args:
        items: side table with ``item_id`` and ``column`` (a string or a list of strings).
        column: column of the category.
        codes: codes of items.
    """
    item, category = _pairs(items, column, codes)
    return ItemCategories.from_pairs(item, category)


def _pairs(items: pl.DataFrame, column: str, codes: Codes) -> tuple[NDArray[Any], NDArray[Any]]:
    """(item, category) of items that have a code: [P] each."""
    table = items.select("item_id", category=pl.col(column))
    if isinstance(table.schema["category"], pl.List):
        table = table.explode("category")
    table = table.drop_nulls().with_columns(item=codes.encode(table.drop_nulls()["item_id"]))
    table = table.filter(pl.col("item") >= 0)
    category = table["category"].cast(pl.String).rank("dense").cast(pl.Int64).to_numpy() - 1
    return table["item"].to_numpy(), category


class Affinity:
    """Affinity of a user's recent history to the categories (author, genre, tag) of items.

    With h the shares of the categories in the history (they sum to 1), the score of an item is the
    mean of h over the item's categories.

    Args:
        items: side table with ``item_id`` and ``column`` (a string or a list of strings).
        column: column of the category.
        codes: codes of items.
        depth: number of latest history items to use.
    """

    def __init__(self, items: pl.DataFrame, column: str, codes: Codes, depth: int) -> None:
        sparse = load_sparse()

        self.name = f"{column}_affinity"
        self._depth = depth
        item, category = _pairs(items, column, codes)
        share = 1.0 / np.bincount(item, minlength=len(codes))[item]
        shape = (len(codes), int(category.max(initial=0)) + 1)
        self._belongs: Any = sparse.csr_array((share.astype(np.float32), (item, category)), shape)

    def score(self, chunk: Chunk) -> Floats:
        """Score all known items: [B, I], in [0, 1].

        Args:
            chunk: B requests.
        """
        sparse = load_sparse()

        request, item, _, _ = chunk.recent(self._depth)
        weight = 1.0 / np.maximum(np.bincount(request, minlength=len(chunk)), 1)[request]
        votes = sparse.csr_array(
            (weight.astype(np.float32), (request, item)), shape=(len(chunk), chunk.items)
        )
        belongs = self._belongs[: chunk.items]
        if belongs.shape[1] > 256:
            dense: Floats = (votes @ belongs @ belongs.T).toarray()
            return dense
        shares = np.zeros((chunk.size, belongs.shape[1]), np.float32)  # always the full chunk
        shares[: len(chunk)] = (votes @ belongs).toarray()
        out: Floats = (shares @ belongs.toarray().T)[: len(chunk)]
        return out
