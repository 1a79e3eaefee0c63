"""Candidate protocols: the candidates of a request, and what counts as relevant.

- ``exposed``: the candidates are the shown items; feedback is real.
- ``retrieved``: the candidates come from the retriever; an item consumed later counts only if it
  was retrieved.
- ``injected``: consumed items are put among retrieved ones, as in the paper. Rankers can exploit
  this; every table carries ``INJECTED_WARNING``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from goalrank.compute import Executor
from goalrank.logs.candidates.pending import PendingRequests
from goalrank.logs.events.arrays import Codes, Events, Ints, Longs
from goalrank.logs.events.request_points import FutureInteractions, RequestPoints
from goalrank.logs.retrieval.blending import (
    blend,
    reciprocal_ranks,
    top_items,
    top_items_shared,
)
from goalrank.logs.retrieval.channel import (
    Chunk,
    RetrievalChannel,
)
from goalrank.logs.retrieval.item_to_item import (
    ItemToItem,
)
from goalrank.logs.retrieval.learned_blend import BlendLearner
from goalrank.logs.retrieval.refit_scoring import (
    ChunkResult,
    score_refits,
)
from goalrank.logs.retrieval.refits import (
    Refits,
)
from goalrank.requests import mix64

__all__ = [
    "INJECTED_WARNING",
    "ItemScorer",
    "Retrieved",
    "linked_features",
    "retrieve",
    "window_requests",
]

INJECTED_WARNING = (
    "injected candidates: the positives were put in by hand beside retrieved items, so they stand "
    "out by not being what the retriever brings. A baseline, sorting by minus the "
    "retriever's score, scores very high here: results mostly measure how well a model spots "
    "injected items. Print that baseline beside every result, and prefer protocol 'retrieved'."
)

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


@dataclass(frozen=True)
class Retrieved:
    """Requests with retrieved candidates, and the counts for recall.

    Attributes:
        pending: all requests after the first refit.
        hits: name of a channel (or ``blend``) → [B] positives among its first N.
        positives: [B] positives of each request, retrieved or not.
        shares: channel -> its share of the candidates at the end of the log.
    """

    pending: PendingRequests
    hits: dict[str, NDArray[np.int64]]
    positives: NDArray[np.int64]
    shares: dict[str, float]


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


class _Retriever:
    """Retrieval, blending and scoring of chunks of requests."""

    def __init__(
        self,
        log: Events,
        future: FutureInteractions,
        positive: NDArray[np.bool_],
        channels: Sequence[RetrievalChannel],
        learner: BlendLearner,
        scorers: Sequence[ItemScorer],
        count: int,
        *,
        exclude_seen: bool,
        inject: bool,
    ) -> None:
        self._log, self._future, self._positive = log, future, positive
        self._channels, self._learner, self._scorers = channels, learner, scorers
        self._count, self._exclude_seen, self._inject = count, exclude_seen, inject

    def serve(self, part: Longs, chunk: Chunk) -> ChunkResult:
        """Retrieve and blend candidates, score them and count hits.

        Args:
            part: rows of the requests.
            chunk: the same requests with their histories.

        Returns:
            Arrays candidates, position, score, positives, ``feature NAME`` and ``hits NAME``.
        """
        consumed = np.where(self._future.real[part], self._log.item[self._future.rows[part]], -1)
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
            "score": score,
            **features,
            **self._count_hits(part, chunk, consumed, {**by_channel, "blend": candidates}),
            "choices": self._choices(part, chunk, consumed, tops),
        }

    def _choices(self, part: Longs, chunk: Chunk, consumed: Ints, tops: list[Ints]) -> Longs:
        """Positives that each choice of shares would have brought: [P, choices], -1 = not judged."""
        learner = self._learner
        out = np.full((len(part), len(learner.choices)), -1, np.int64)
        rows = np.flatnonzero(learner.judged[part])
        if len(rows) == 0:
            return out
        positive = self._retrievable(part, chunk, consumed)[rows]
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

    def _retrievable(self, part: Longs, chunk: Chunk, consumed: Ints) -> NDArray[np.bool_]:
        """Whether each consumed item is a positive that a retriever may bring: [P, S]."""
        positive = self._positive[part] & (consumed >= 0)
        if self._exclude_seen:
            known = (consumed >= 0) & (consumed < chunk.items)
            safe = np.where(known, consumed, 0).astype(np.int64)
            positive &= ~(known & np.take_along_axis(chunk.seen, safe, axis=1))
        return positive

    def _count_hits(
        self, part: Longs, chunk: Chunk, consumed: Ints, tops: dict[str, Ints]
    ) -> ChunkResult:
        positive = self._retrievable(part, chunk, consumed)
        hits = {
            f"hits {name}": (positive & (locate(top[:, : self._count], consumed) >= 0)).sum(axis=1)
            for name, top in tops.items()
        }
        return {"positives": positive.sum(axis=1), **hits}


class _Collected:
    """Results of chunks, collected into arrays over all B requests."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.arrays: ChunkResult = {}

    def add(self, part: Longs, result: ChunkResult) -> None:
        """Add the result of the requests ``part``."""
        for name, values in result.items():
            if name not in self.arrays:
                self.arrays[name] = np.zeros((self._rows, *values.shape[1:]), values.dtype)
            self.arrays[name][part] = values

    def named(self, kind: str) -> ChunkResult:
        """The arrays ``kind NAME``, by NAME."""
        prefix = f"{kind} "
        return {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}


def retrieve(
    log: Events,
    points: RequestPoints,
    refits: Refits,
    future: FutureInteractions,
    positive: NDArray[np.bool_],
    *,
    users: Codes,
    items: Codes,
    channels: Sequence[RetrievalChannel],
    quotas: Sequence[float],
    learn_quotas: bool,
    scorers: Sequence[ItemScorer],
    item_to_item: ItemToItem,
    count: int,
    exclude_seen: bool,
    inject: bool,
    executor: Executor,
) -> Retrieved:
    """Retrieve candidates from channels that learned only from rows before each request.

    Args:
        log: consumed items; ``points`` and ``future`` refer to its rows.
        points: B requests by time; those before the first refit are dropped.
        refits: schedule of the refits.
        future: [B, S] next interactions of each request.
        positive: [B, S] which of them are relevant.
        users: codes of users.
        items: codes of items.
        channels: retrievers.
        quotas: share of the candidates per retriever, to begin with.
        learn_quotas: whether shares follow what earlier requests show; see `BlendLearner`.
        scorers: further models whose scores become features.
        item_to_item: learns with the channels (it may be one of them).
        count: N.
        exclude_seen: whether consumed items are left out.
        inject: whether to put ``future`` among the candidates.
        executor: executor of the retrieval.
    """
    rows = np.flatnonzero(refits.point_block >= 0)
    points = points.take(rows)
    refits = Refits(refits.moments, refits.row_block, refits.point_block[rows])
    future = FutureInteractions(future.rows[rows], future.real[rows])
    hashes = mix64(users.hashes[points.user] ^ mix64(points.time.astype(np.uint64)))
    learner = BlendLearner(quotas, hashes, points.end, fixed=inject or not learn_quotas)
    worker = _Retriever(
        log, future, positive[rows], channels, learner, scorers, count,
        exclude_seen=exclude_seen, inject=inject,
    )  # fmt: skip
    learners = [c.advance for c in channels if c is not item_to_item] + [item_to_item.advance]
    collected = _Collected(len(points))

    def collect(part: Longs, result: ChunkResult) -> None:
        learner.keep(part, result.pop("choices"), result["positives"])
        collected.add(part, result)

    if len(points) == 0:  # the arrays need shapes even without requests
        no_rows = np.zeros(0, np.int64)
        collected.add(no_rows, _empty_result(channels, scorers, count, future.rows.shape[1]))
    score_refits(
        log, points, refits, users=users, items=items, learners=learners,
        score=worker.serve, collect=collect, executor=executor, before=learner.advance,
    )  # fmt: skip
    arrays = collected.arrays
    pending = PendingRequests(
        points, arrays["candidates"], arrays["position"], future.rows, arrays["score"],
        collected.named("feature"),
    )  # fmt: skip
    names = [channel.name for channel in channels]
    return Retrieved(
        pending,
        collected.named("hits"),
        arrays["positives"],
        dict(zip(names, learner.shares)),
    )


def _empty_result(
    channels: Sequence[RetrievalChannel], scorers: Sequence[ItemScorer], count: int, horizon: int
) -> ChunkResult:
    """Result of `_Retriever.serve` without requests."""
    names = [f"{c.name}_{what}" for c in channels for what in ("score", "rank")]
    names += [s.name for s in scorers]
    hits = [*(c.name for c in channels), "blend"]
    return {
        "candidates": np.zeros((0, count), np.int32),
        "position": np.zeros((0, horizon), np.int32),
        "score": np.zeros((0, count), np.float32),
        **{f"feature {name}": np.zeros((0, count), np.float32) for name in names},
        "positives": np.zeros(0, np.int64),
        **{f"hits {name}": np.zeros(0, np.int64) for name in hits},
    }


def window_requests(
    shown: Events, points: RequestPoints, rows: Longs, offsets: Longs
) -> PendingRequests:
    """Make requests of windows of exposures; the candidates are the items, in order.

    Items that were not shown are candidates without a position and without feedback.

    Args:
        shown: exposures.
        points: B windows.
        rows: rows of ``shown``, window by window.
        offsets: [B + 1] rows of window b are ``rows[offsets[b]:offsets[b + 1]]``.
    """
    lengths = np.diff(offsets)
    width = int(lengths.max(initial=1))
    real = np.arange(width) < lengths[:, None]
    log_row = np.zeros((len(points), width), dtype=np.int64)
    log_row[real] = rows
    candidates = np.where(real, shown.item[log_row], -1).astype(np.int32)
    position = np.where(real & shown.shown[log_row], np.arange(width), -1).astype(np.int32)
    score = None
    if shown.carried is not None and "candidate_score" in shown.carried.columns:
        values = shown.carried["candidate_score"].to_numpy().astype(np.float32)  # NaN: none
        score = np.where(real, values[log_row], np.float32(0))
    return PendingRequests(points, candidates, position, log_row, score)


def linked_features(
    log: Events,
    points: RequestPoints,
    refits: Refits,
    candidates: Ints,
    *,
    users: Codes,
    items: Codes,
    scorers: Sequence[ItemScorer],
    item_to_item: ItemToItem,
    executor: Executor,
) -> dict[str, Floats]:
    """Score given candidates by models that learned only from rows before each request.

    Args:
        log: consumed items.
        points: B requests by time.
        refits: schedule of the refits.
        candidates: [B, N] codes, -1 for none.
        users: codes of users.
        items: codes of items.
        scorers: models.
        item_to_item: the model that the refits train.
        executor: executor of the scoring.

    Returns:
        Name of the scorer → [B, N]; 0 before the first refit.
    """
    collected = _Collected(len(points))
    collected.arrays = {s.name: np.zeros(candidates.shape, np.float32) for s in scorers}
    score_refits(
        log, points, refits, users=users, items=items, learners=[item_to_item.advance],
        score=partial(_score_given, scorers, candidates), collect=collected.add, executor=executor,
    )  # fmt: skip
    return collected.arrays


def _score_given(
    scorers: Sequence[ItemScorer], candidates: Ints, part: Longs, chunk: Chunk
) -> ChunkResult:
    """Scores of each scorer for the candidates of ``part``."""
    return {s.name: gather(s.score(chunk), candidates[part]) for s in scorers}
