"""Scores of items by factors: a user is folded in from the items of the history."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.retrieval.channel import Chunk, RowWeights
from goalrank.logs.retrieval.sparse import load_sparse

__all__ = ["ALPHA", "RIDGE", "FoldedIn", "ItemFactors"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
ALPHA = 10.0  # confidence of a consumed item of weight 1; that of all others is 1
RIDGE = 0.05  # weight of the factors' squared length
_STEPS = 12  # of conjugate gradients; more do not change the first four digits
_TINY = 1e-300


class ItemFactors:
    """Factors of items, for which those of users are found.

    Args:
        values: [I, F].

    Attributes:
        values: as given.
    """

    def __init__(self, values: Floats) -> None:
        self.values = values

    @cached_property
    def _gram(self) -> Doubles:
        """Products of the factors over all items, and the ridge: [F, F]."""
        width = self.values.shape[1]
        products = (self.values.T @ self.values).astype(np.float64)
        products[np.diag_indices(width)] += RIDGE
        return products

    def users(self, item: NDArray[np.integer], confidence: Floats) -> Doubles:
        """Factors of users by least squares: [B, F].

        In double precision: rounding depends on how many users are asked for at once, and of two
        items with nearly the same score another one would come first.

        Minimises sum over items of c (p − x·y)² + ridge |x|², where c is the confidence and p is 1
        for the items of a history, and c is 1 and p is 0 for all others (Hu, Koren and Volinsky,
        ICDM 2008), by conjugate gradients from 0 (Takács, Pilászy and Tikk, RecSys 2011).

        Args:
            item: [B, D] items of the history, each once.
            confidence: [B, D]; 0 for none.
        """
        some, weight = self.values[item].astype(np.float64), confidence.astype(np.float64)
        more = np.where(weight > 0, weight - 1, 0)
        rest = (weight[:, None, :] @ some)[:, 0]
        step: Doubles = rest.copy()
        users: Doubles = np.zeros_like(rest)
        length = np.square(rest).sum(axis=1, keepdims=True)
        for _ in range(_STEPS):
            product = (some @ step[:, :, None])[:, :, 0] * more
            image = (self._gram @ step[:, :, None])[:, :, 0] + (product[:, None, :] @ some)[:, 0]
            size = length / np.maximum((step * image).sum(axis=1, keepdims=True), _TINY)
            users = users + size * step
            rest -= size * image
            before, length = length, np.square(rest).sum(axis=1, keepdims=True)
            step = rest + length / np.maximum(before, _TINY) * step
        return users


class FoldedIn:
    """Inner products of items' factors with those that least squares finds for a history.

    Args:
        confidence: weight of each row of the log.
        depth: number of latest history items to fold in.

    Attributes:
        factors: of the items; of none before the first fit.
    """

    name = "factorisation"
    needs_evidence = False
    personal = True

    def __init__(self, confidence: RowWeights, depth: int = 50) -> None:
        self._confidence, self._depth = confidence, depth
        self.factors = ItemFactors(np.zeros((0, 0), np.float32))

    def learnt(self) -> dict[str, NDArray[Any]]:
        """The items' factors."""
        return {"items": self.factors.values}

    @classmethod
    def from_learnt(cls, kept: dict[str, NDArray[Any]], confidence: RowWeights) -> FoldedIn:
        """What `learnt` gave, for the rows of another log.

        Args:
            kept: arrays.
            confidence: weight of each row of that log.
        """
        made = FoldedIn(confidence)
        made.factors = ItemFactors(kept["items"])
        return made

    def score(self, chunk: Chunk) -> Floats:
        """Inner products of folded-in users and items: [B, I]."""
        users = self._users(chunk).astype(np.float32)
        scores: Floats = users @ self.factors.values.T
        return scores[: len(chunk)]

    def exact(self, chunk: Chunk, items: NDArray[np.integer]) -> Doubles:
        """Inner products with some items in double precision: [B, M]; see `ScoringChannel`."""
        some = self.factors.values[np.maximum(items, 0)]
        users = self._users(chunk)[: len(chunk)]
        scores: Doubles = (some @ users[:, :, None])[:, :, 0]
        return scores

    def _users(self, chunk: Chunk) -> Doubles:
        """Factors of the users of a chunk, worked out once."""
        if self.name not in chunk.kept:
            chunk.kept[self.name] = self._folded_in(chunk)
        users: Doubles = chunk.kept[self.name]
        return users

    def _folded_in(self, chunk: Chunk) -> Doubles:
        request, item, _, row = chunk.recent(self._depth)
        # Always the padded chunk: rounding of a matrix product may depend on its shape.
        history = load_sparse().csr_matrix(  # an item's rows are added up
            (self._confidence[row] * np.float32(ALPHA), (request, item)),
            shape=(chunk.size, chunk.items),
        )
        lengths = np.diff(history.indptr)
        real = np.arange(self._depth) < lengths[:, None]
        items = np.zeros(real.shape, np.int64)
        confidence = np.zeros(real.shape, np.float32)
        items[real], confidence[real] = history.indices, history.data
        return self.factors.users(items, confidence)
