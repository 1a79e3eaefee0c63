"""Retrieval, blending and scoring of chunks of requests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Events, Ints, Longs
from goalrank.logs.events.request_points import (
    FutureInteractions,
    RequestPoints,
    future_interactions,
)
from goalrank.logs.retrieval.blending import blend
from goalrank.logs.retrieval.channel import Chunk, ItemScorer, RetrievalChannel
from goalrank.logs.retrieval.channel_lists import ChannelLists, scored
from goalrank.logs.retrieval.learned_blend import BlendLearner
from goalrank.logs.retrieval.refit_scoring import ChunkResult

__all__ = ["Retriever", "locate"]


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
        lists = ChannelLists.of(self._channels, chunk, self._count, self._exclude_seen)
        tops = lists.tops
        forced = consumed if self._inject else None
        shares = self._learner.shares
        candidates = blend(tops, shares, self._count, chunk.items, forced)
        linked = {**lists.features(candidates), **scored(self._scorers, chunk, candidates)}
        features: ChunkResult = {f"feature {name}": values for name, values in linked.items()}
        by_channel = {c.name: t for c, t in zip(self._channels, tops)}
        return {
            "candidates": candidates,
            "position": locate(candidates, consumed),
            "log_row": future.rows,
            "score": lists.blended_score(shares, candidates),
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
