"""Scores of items by factors: a user is folded in from the items of the history."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Ints
from goalrank.logs.retrieval.blending import top_items
from goalrank.logs.retrieval.channel import Chunk, RowWeights, added_up

__all__ = ["ALPHA", "RIDGE", "FoldedIn", "ItemFactors"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
ALPHA = 10.0  # confidence of a consumed item of weight 1; that of all others is 1
RIDGE = 0.05  # weight of the factors' squared length
_STEPS = 12  # of conjugate gradients; more do not change the first four digits
_TINY = 1e-300
_LONG = 4  # one item in so many is looked at first, those with the longest factors
_WIDE = 32  # items per place of a list from which that pays
_SPARE = 16  # items beyond the last place, of which rounding may hide one that belongs there
_SLACK = 1.0 + 1e-4  # more than single precision rounds an inner product of any width in use


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

    @cached_property
    def _longest(self) -> tuple[Ints, Floats, float]:
        """Codes of the longest factors, ascending; the factors; the length that no other exceeds."""
        lengths = np.sqrt(np.square(self.values, dtype=np.float64).sum(axis=1))
        size = -(-len(lengths) // _LONG)
        order = np.argpartition(-lengths, size - 1)
        codes: Ints = np.sort(order[:size]).astype(np.int32)
        return codes, self.values[codes], float(lengths[order[size:]].max(initial=0.0))

    def best(self, users: Floats, count: int, excluded: NDArray[np.bool_] | None) -> Ints:
        """Items with the largest inner products, as `top_items` has them: [B, count] codes.

        The items with the longest factors are looked at first. Where the last place goes beyond what
        any other item could have by its length, no other is looked at.

        Args:
            users: [B, F] factors.
            count: items per request.
            excluded: [B, I] items that are left out.
        """
        items = len(self.values)
        if items < _WIDE * count:
            return top_items(users @ self.values.T, count, excluded)
        codes, long, rest = self._longest
        scores = users @ long.T
        places = top_items(scores, count, None if excluded is None else excluded[:, codes])
        out = np.where(places >= 0, codes[places], -1)
        least = np.take_along_axis(scores, np.maximum(places[:, -1:], 0), axis=1)[:, 0]
        # In double precision: squares of small numbers would be 0. No number says that none is more.
        limit = np.linalg.norm(users.astype(np.float64), axis=1) * rest * _SLACK
        open_rows = np.flatnonzero((places[:, -1] < 0) | ~(least > limit))
        if len(open_rows):
            others = None if excluded is None else excluded[open_rows]
            out[open_rows] = top_items(users[open_rows] @ self.values.T, count, others)
        return out

    def products(self, users: Doubles, items: NDArray[np.integer]) -> Doubles:
        """Inner products with some items in double precision: [B, M].

        Args:
            users: [B, F] factors.
            items: [B, M] codes; those of -1 are anything.
        """
        found: Doubles = (self.values[np.maximum(items, 0)] @ users[:, :, None])[:, :, 0]
        return found

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

    def of(self, chunk: Chunk, items: Ints) -> Floats:
        """Inner products with some items: [B, M]; see `ScoringChannel`."""
        users = self._users(chunk)[: len(chunk)]
        return self.factors.products(users, items).astype(np.float32)

    def best(self, chunk: Chunk, count: int, excluded: NDArray[np.bool_] | None) -> Ints:
        """The best items, in the order of scores in double precision; see `ScoringChannel`."""
        users = self._users(chunk)
        few = users.astype(np.float32)[: len(chunk)]
        items = self.factors.best(few, count + _SPARE, excluded)
        value = self.factors.products(users[: len(chunk)], items)
        return _by_value(items, value)[:, :count]

    def _users(self, chunk: Chunk) -> Doubles:
        """Factors of the users of a chunk, worked out once."""
        if self.name not in chunk.kept:
            chunk.kept[self.name] = self._folded_in(chunk)
        users: Doubles = chunk.kept[self.name]
        return users

    def _folded_in(self, chunk: Chunk) -> Doubles:
        request, item, _, row = chunk.recent(self._depth)
        place, weight = added_up(
            request * chunk.items + item, self._confidence[row] * np.float32(ALPHA)
        )
        lengths = np.bincount(place // chunk.items, minlength=chunk.size)
        # Always the padded chunk: rounding of a matrix product may depend on its shape.
        real = np.arange(self._depth) < lengths[:, None]
        items = np.zeros(real.shape, np.int64)
        confidence = np.zeros(real.shape, np.float32)
        items[real], confidence[real] = place % chunk.items, weight
        return self.factors.users(items, confidence)


def _by_value(items: Ints, value: Doubles) -> Ints:
    """Items [B, M] by falling values (ties: lowest code first); -1 last."""
    order = np.lexsort((items, np.where(items >= 0, -value, np.inf)), axis=1)
    return np.take_along_axis(items, order, axis=1)
