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
_SPARSE = 4  # of so many items at most one has evidence where the others are passed over


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
    return {scorer.name: _scores_of(scorer, chunk, candidates) for scorer in scorers}


@dataclass(frozen=True)
class ChannelLists:
    """The best items of each of C channels for a chunk of requests, and scores of any others.

    Attributes:
        channels: the channels.
        chunk: B requests.
        tops: [B, 2 N] codes per channel, best first, -1 for none.
    """

    channels: Sequence[ScoringChannel]
    chunk: Chunk
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
        tops = [_top(channel, chunk, 2 * count, exclude_seen, best) for channel in channels]
        return cls(channels, chunk, tops)

    def features(self, candidates: Ints) -> dict[str, Floats]:
        """Score and reciprocal rank of candidates in each channel: name → [B, N].

        Args:
            candidates: [B, N] codes, -1 for none.
        """
        known = np.where(candidates < self.chunk.items, candidates, -1)
        out = {}
        for channel, scores, top in zip(self.channels, self._scores(candidates), self.tops):
            out[f"{channel.name}_score"] = scores
            out[f"{channel.name}_rank"] = reciprocal_ranks(top, self.chunk.items, known)
        return out

    def _scores(self, candidates: Ints) -> list[Floats]:
        return [_scores_of(channel, self.chunk, candidates) for channel in self.channels]

    def blended_score(self, shares: Sequence[float], candidates: Ints) -> Floats:
        """Sum of the channels' scores, each as a part of its largest, weighed by shares: [B, N].

        Args:
            shares: [C].
            candidates: [B, N] codes, -1 for none.
        """
        total = np.zeros(candidates.shape, np.float32)
        for share, score in zip(shares, self._scores(candidates)):
            largest = np.abs(score).max(axis=1, keepdims=True, initial=1e-12)
            total += np.float32(share) * score / largest
        return total


def _all_scores(scorer: ItemScorer, chunk: Chunk) -> Floats:
    """Scores of all known items, worked out once per chunk: [B, I]."""
    if scorer.name not in chunk.kept:
        chunk.kept[scorer.name] = scorer.score(chunk)
    scores: Floats = chunk.kept[scorer.name]
    return scores


def _scores_of(scorer: ItemScorer, chunk: Chunk, candidates: Ints) -> Floats:
    """Scores of candidates: [B, N], 0 for padding and for items not known yet."""
    of = getattr(scorer, "of", None)
    if of is None:
        return gather(_all_scores(scorer, chunk), candidates)
    known = (candidates >= 0) & (candidates < chunk.items)
    return np.where(known, of(chunk, np.where(known, candidates, -1)), np.float32(0))


def _top(
    channel: ScoringChannel,
    chunk: Chunk,
    count: int,
    exclude_seen: bool,
    found: dict[str, Ints],
) -> Ints:
    excluded = chunk.seen if exclude_seen else None
    best = getattr(channel, "best", None)
    if best is not None:
        items: Ints = best(chunk, count, excluded)
        return items
    scores = _all_scores(channel, chunk)
    if not channel.personal:
        row = np.where(scores[0] > 0, scores[0], -np.inf) if channel.needs_evidence else scores[0]
        seen = np.zeros_like(chunk.seen) if excluded is None else excluded
        if channel.name not in found:
            found[channel.name] = best_shared(row, count)
        return top_items_shared(row, seen, count, found[channel.name])
    if channel.needs_evidence:
        return _top_of_evidence(scores, count, excluded)
    return top_items(scores, count, excluded)


def _top_of_evidence(scores: Floats, count: int, excluded: NDArray[np.bool_] | None) -> Ints:
    """`top_items` of scores above 0; where they are few, the others are not looked at."""
    rows, size = scores.shape
    flat = np.flatnonzero(scores > 0)
    if excluded is not None:
        flat = flat[~excluded.ravel()[flat]]
    request, item = np.divmod(flat, size)
    lengths = np.bincount(request, minlength=rows)
    width = int(lengths.max(initial=0))
    if width * _SPARSE > size:
        some = np.zeros(rows * size, bool)
        some[flat] = True
        return top_items(scores, count, ~some.reshape(rows, size))
    place = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    items, value = np.full((rows, width), -1, np.int32), np.full((rows, width), -np.inf, np.float32)
    items[request, place], value[request, place] = item, scores.ravel()[flat]
    best = top_items(value, count)
    if not width:
        return best
    return np.where(best >= 0, np.take_along_axis(items, np.maximum(best, 0), axis=1), -1)
