"""What each channel brings for a chunk of requests, and what it says of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Ints
from goalrank.logs.retrieval.blending import (
    best_shared,
    reciprocal_ranks,
    top_items,
    top_items_shared,
)
from goalrank.logs.retrieval.channel import Chunk, ItemScorer, ScoringChannel

__all__ = ["ChannelLists", "gather", "scored"]

Floats = NDArray[np.float32]
_SPARE = 16  # items beyond the last place, of which rounding may hide one that belongs there


def gather(scores: Floats, candidates: Ints) -> Floats:
    """Gather the scores of candidates: [B, N], 0 for padding and for items not known yet.

    Args:
        scores: [B, I].
        candidates: [B, N] codes, -1 for none.
    """
    known = (candidates >= 0) & (candidates < scores.shape[1])
    values = np.take_along_axis(scores, np.where(known, candidates, 0).astype(np.int64), axis=1)
    return np.where(known, values, np.float32(0))


def scored(scorers: Sequence[ItemScorer], chunk: Chunk, candidates: Ints) -> dict[str, Floats]:
    """Scores of candidates by several models: name → [B, N].

    Args:
        scorers: the models.
        chunk: B requests.
        candidates: [B, N] codes, -1 for none.
    """
    return {scorer.name: gather(scorer.score(chunk), candidates) for scorer in scorers}


@dataclass(frozen=True)
class ChannelLists:
    """Scores of all known items by C channels, and the best items of each.

    Attributes:
        names: [C] names of the channels.
        items: I, number of known items.
        scores: [B, I] per channel.
        tops: [B, 2 N] codes per channel, best first, -1 for none.
    """

    names: list[str]
    items: int
    scores: list[Floats]
    tops: list[Ints]

    @classmethod
    def of(
        cls,
        channels: Sequence[ScoringChannel],
        chunk: Chunk,
        count: int,
        exclude_seen: bool,
        best: dict[str, Ints] | None = None,
    ) -> ChannelLists:
        """Ask channels.

        Args:
            channels: the channels.
            chunk: B requests.
            count: N, candidates that are wanted.
            exclude_seen: whether consumed items are left out.
            best: what was found of channels whose scores are the same for all requests, where
                those do not change from call to call; it is added to.
        """
        best = {} if best is None else best
        scores = [channel.score(chunk) for channel in channels]
        tops = [_top(c, s, chunk, 2 * count, exclude_seen, best) for c, s in zip(channels, scores)]
        return cls([channel.name for channel in channels], chunk.items, scores, tops)

    def features(self, candidates: Ints) -> dict[str, Floats]:
        """Score and reciprocal rank of candidates in each channel: name → [B, N].

        Args:
            candidates: [B, N] codes, -1 for none.
        """
        known = np.where(candidates < self.items, candidates, -1)
        out = {}
        for name, scores, top in zip(self.names, self.scores, self.tops):
            out[f"{name}_score"] = gather(scores, candidates)
            out[f"{name}_rank"] = reciprocal_ranks(top, self.items, known)
        return out

    def blended_score(self, shares: Sequence[float], candidates: Ints) -> Floats:
        """Sum of the channels' scores, each as a part of its largest, weighed by shares: [B, N].

        Args:
            shares: [C].
            candidates: [B, N] codes, -1 for none.
        """
        total = np.zeros(candidates.shape, np.float32)
        for share, scores in zip(shares, self.scores):
            score = gather(scores, candidates)
            largest = np.maximum(np.abs(score).max(axis=1, keepdims=True), np.float32(1e-12))
            total += np.float32(share) * score / largest
        return total


def _top(
    channel: ScoringChannel,
    scores: Floats,
    chunk: Chunk,
    count: int,
    exclude_seen: bool,
    best: dict[str, Ints],
) -> Ints:
    if not channel.personal:
        row = np.where(scores[0] > 0, scores[0], -np.inf) if channel.needs_evidence else scores[0]
        seen = chunk.seen if exclude_seen else np.zeros_like(chunk.seen)
        if channel.name not in best:
            best[channel.name] = best_shared(row, count)
        return top_items_shared(row, seen, count, best[channel.name])
    excluded = chunk.seen if exclude_seen else None
    if channel.needs_evidence:
        excluded = scores <= 0 if excluded is None else (scores <= 0) | excluded
    exact = getattr(channel, "exact", None)
    if exact is None:
        return top_items(scores, count, excluded)
    some = top_items(scores, count + _SPARE, excluded)
    return _in_exact_order(some, exact(chunk, some))[:, :count]


def _in_exact_order(items: Ints, exact: NDArray[np.float64]) -> Ints:
    """Items [B, M] by exact scores, the highest first (ties: lowest code first); -1 last."""
    value = np.where(items >= 0, exact, -np.inf)
    by_code = np.argsort(items, axis=1)
    order = np.argsort(-np.take_along_axis(value, by_code, axis=1), axis=1, kind="stable")
    return np.take_along_axis(items, np.take_along_axis(by_code, order, axis=1), axis=1)
