"""Retrieval, blending and scoring of chunks of requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Events, Ints, Longs
from goalrank.logs.events.request_points import (
    FutureInteractions,
    RequestPoints,
    future_interactions,
)
from goalrank.logs.retrieval.blending import (
    blend,
    reciprocal_ranks,
    top_items,
    top_items_shared,
)
from goalrank.logs.retrieval.channel import Chunk, RetrievalChannel
from goalrank.logs.retrieval.learned_blend import BlendLearner
from goalrank.logs.retrieval.refit_scoring import ChunkResult

__all__ = ["ItemScorer", "Retriever", "gather", "locate"]

Floats = NDArray[np.float32]


class ItemScorer(Protocol):
    """A model that scores all known items for a chunk of requests.

    Attributes:
        name: name of the feature made from the scores.
    """

    name: str

    def score(self, chunk: Chunk) -> Floats:
        """Score all known items: [B, I].

        Args:
            chunk: B requests.
        """


def gather(scores: Floats, candidates: Ints) -> Floats:
    """Gather the scores of candidates: [B, N], 0 for padding and for items not known yet.

    Args:
        scores: [B, I].
        candidates: [B, N] codes, -1 for none.
    """
    known = (candidates >= 0) & (candidates < scores.shape[1])
    values = np.take_along_axis(scores, np.where(known, candidates, 0).astype(np.int64), axis=1)
    return np.where(known, values, np.float32(0))


def locate(candidates: Ints, items: Ints) -> Ints:
    """Find the position of items among the candidates: [B, S], -1 if absent.

    Args:
        candidates: [B, N] codes, -1 for none.
        items: [B, S] codes, -1 for none.
    """
    same = candidates[:, None, :] == items[:, :, None]
    found = same.any(axis=2) & (items >= 0)
    return np.where(found, same.argmax(axis=2), -1).astype(np.int32)


class Retriever:
    """Retrieval, blending and scoring of chunks of requests."""

    def __init__(
        self,
        log: Events,
        points: RequestPoints,
        channels: Sequence[RetrievalChannel],
        learner: BlendLearner,
        scorers: Sequence[ItemScorer],
        *,
        target: str,
        horizon: int,
        count: int,
        exclude_seen: bool,
        inject: bool,
    ) -> None:
        self._log, self._points, self._target = log, points, target
        self._channels, self._learner, self._scorers = channels, learner, scorers
        self._horizon, self._count = horizon, count
        self._exclude_seen, self._inject = exclude_seen, inject

    def serve(self, part: Longs, chunk: Chunk) -> ChunkResult:
        """Retrieve and blend candidates, score them and count hits.

        Args:
            part: rows of the requests.
            chunk: the same requests with their histories.

        Returns:
            Arrays candidates, position, log_row, score, positives, choices, ``feature NAME`` and
            ``hits NAME``.
        """
        future = future_interactions(self._log, self._points.take(part), self._horizon)
        consumed = np.where(future.real, self._log.item[future.rows], -1)
        positive = self._retrievable(future, chunk, consumed)
        scores = [channel.score(chunk) for channel in self._channels]
        tops = [self._top(c, s, chunk) for c, s in zip(self._channels, scores)]
        forced = consumed if self._inject else None
        shares = self._learner.shares
        candidates = blend(tops, shares, self._count, chunk.items, forced)
        score = np.zeros(candidates.shape, np.float32)
        features: ChunkResult = {}
        for channel, quota, values, top in zip(self._channels, shares, scores, tops):
            channel_score = gather(values, candidates)
            largest = np.maximum(
                np.abs(channel_score).max(axis=1, keepdims=True), np.float32(1e-12)
            )
            score += np.float32(quota) * channel_score / largest
            features[f"feature {channel.name}_score"] = channel_score
            ranks = reciprocal_ranks(
                top, chunk.items, np.where(candidates < chunk.items, candidates, -1)
            )
            features[f"feature {channel.name}_rank"] = ranks
        for scorer in self._scorers:
            features[f"feature {scorer.name}"] = gather(scorer.score(chunk), candidates)
        by_channel = {c.name: t for c, t in zip(self._channels, tops)}
        return {
            "candidates": candidates,
            "position": locate(candidates, consumed),
            "log_row": future.rows,
            "score": score,
            **features,
            "positives": positive.sum(axis=1),
            **self._count_hits(positive, consumed, {**by_channel, "blend": candidates}),
            "choices": self._choices(part, chunk, consumed, positive, tops),
        }

    def _choices(
        self,
        part: Longs,
        chunk: Chunk,
        consumed: Ints,
        positive: NDArray[np.bool_],
        tops: list[Ints],
    ) -> Longs:
        """Positives that each choice of shares would have brought: [P, choices], -1 = not judged."""
        learner = self._learner
        out = np.full((len(part), len(learner.choices)), -1, np.int64)
        rows = np.flatnonzero(learner.judged[part])
        if len(rows) == 0:
            return out
        positive = positive[rows]
        few = [top[rows] for top in tops]
        for number, shares in enumerate(learner.choices):
            found = blend(few, shares, self._count, chunk.items)
            out[rows, number] = (positive & (locate(found, consumed[rows]) >= 0)).sum(axis=1)
        return out

    def _top(self, channel: RetrievalChannel, scores: Floats, chunk: Chunk) -> Ints:
        if not channel.personal:
            row = (
                np.where(scores[0] > 0, scores[0], -np.inf) if channel.needs_evidence else scores[0]
            )
            seen = chunk.seen if self._exclude_seen else np.zeros_like(chunk.seen)
            return top_items_shared(row, seen, 2 * self._count)
        excluded = chunk.seen if self._exclude_seen else None
        if channel.needs_evidence:
            excluded = scores <= 0 if excluded is None else (scores <= 0) | excluded
        return top_items(scores, 2 * self._count, excluded)

    def _retrievable(
        self, future: FutureInteractions, chunk: Chunk, consumed: Ints
    ) -> NDArray[np.bool_]:
        """Whether each consumed item is a positive that a retriever may bring: [P, S]."""
        positive = (self._log.values[self._target][future.rows] > 0) & (consumed >= 0)
        if self._exclude_seen:
            known = (consumed >= 0) & (consumed < chunk.items)
            safe = np.where(known, consumed, 0).astype(np.int64)
            positive &= ~(known & np.take_along_axis(chunk.seen, safe, axis=1))
        return positive

    def _count_hits(
        self, positive: NDArray[np.bool_], consumed: Ints, tops: dict[str, Ints]
    ) -> ChunkResult:
        return {
            f"hits {name}": (positive & (locate(top[:, : self._count], consumed) >= 0)).sum(axis=1)
            for name, top in tops.items()
        }
