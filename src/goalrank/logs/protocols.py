"""Candidate protocols: what a request ranks, and what counts as the answer.

- ``exposed``: the items that were really shown; feedback is real.
- ``retrieved``: what the retriever brings; a later consumed item counts only if it was retrieved.
- ``injected``: the consumed items are put in beside retrieved ones, as in the paper. Easy to
  game; every table carries ``INJECTED_WARNING``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.arrays import Codes, Events, Ints, Longs
from goalrank.logs.drafts import Drafts
from goalrank.logs.points import Points, Truth
from goalrank.logs.retrieval import (
    Chunk,
    ItemToItem,
    Refits,
    RetrievalChannel,
    blend,
    reciprocal_ranks,
    top_items,
    top_of_one,
    walk,
)

__all__ = ["INJECTED_WARNING", "Retrieved", "Scorer", "linked_features", "retrieve", "shown_drafts"]

INJECTED_WARNING = (
    "injected candidates: the positives were put in by hand beside retrieved items, so they stand "
    "out by not being what the retriever brings. A rule without any learning, sorting by minus the "
    "retriever's score, scores very high here: results mostly measure how well a model spots "
    "injected items. Print that rule beside every result, and prefer protocol 'retrieved'."
)

Floats = NDArray[np.float32]


class Scorer(Protocol):
    """Scores all known items for a chunk of requests."""

    name: str

    def score(self, chunk: Chunk) -> Floats:
        """[B, I]."""


@dataclass(frozen=True)
class Retrieved:
    """Drafts with retrieved candidates, and what recall needs.

    Attributes:
        drafts: all requests after the first refit.
        hits: name of channel (or ``blend``) -> [B] positives among its first N.
        positives: [B] positives of each request, retrieved or not.
    """

    drafts: Drafts
    hits: dict[str, NDArray[np.int64]]
    positives: NDArray[np.int64]


def gather(scores: Floats, candidates: Ints) -> Floats:
    """[B, N] scores of the candidates, 0 for padding and for items not known yet."""
    known = (candidates >= 0) & (candidates < scores.shape[1])
    values = np.take_along_axis(scores, np.where(known, candidates, 0).astype(np.int64), axis=1)
    return np.where(known, values, np.float32(0))


def locate(candidates: Ints, items: Ints) -> Ints:
    """[B, S] position of each item among the candidates, -1 where absent (or item -1)."""
    same = candidates[:, None, :] == items[:, :, None]
    found = same.any(axis=2) & (items >= 0)
    return np.where(found, same.argmax(axis=2), -1).astype(np.int32)


class _Retriever:
    """Serves one chunk after another into shared arrays, each chunk its own rows."""

    def __init__(
        self,
        log: Events,
        truth: Truth,
        positive: NDArray[np.bool_],
        channels: Sequence[RetrievalChannel],
        quotas: Sequence[float],
        scorers: Sequence[Scorer],
        count: int,
        *,
        exclude_seen: bool,
        inject: bool,
    ) -> None:
        rows, self._log, self._truth, self._positive = len(truth.rows), log, truth, positive
        self._channels, self._quotas, self._scorers = channels, quotas, scorers
        self._count, self._exclude_seen, self._inject = count, exclude_seen, inject
        self.candidates = np.full((rows, count), -1, dtype=np.int32)
        self.position = np.full(truth.rows.shape, -1, dtype=np.int32)
        names = [f"{c.name}_{what}" for c in channels for what in ("score", "rank")]
        names += [s.name for s in scorers]
        self.features = {n: np.zeros((rows, count), np.float32) for n in names}
        self.score = np.zeros((rows, count), np.float32)
        self.hits = {n: np.zeros(rows, np.int64) for n in [c.name for c in channels] + ["blend"]}
        self.positives = np.zeros(rows, np.int64)

    def serve(self, part: Longs, chunk: Chunk) -> None:
        """Retrieve, blend, score and judge the requests ``part``."""
        wanted = np.where(self._truth.real[part], self._log.item[self._truth.rows[part]], -1)
        scores = [channel.score(chunk) for channel in self._channels]
        tops = [self._top(c, s, chunk) for c, s in zip(self._channels, scores)]
        forced = wanted if self._inject else None
        candidates = blend(tops, self._quotas, self._count, chunk.items, forced)
        self.candidates[part] = candidates
        self.position[part] = locate(candidates, wanted)
        for channel, quota, values, top in zip(self._channels, self._quotas, scores, tops):
            own = gather(values, candidates)
            best = np.maximum(np.abs(own).max(axis=1, keepdims=True), np.float32(1e-12))
            self.score[part] += np.float32(quota) * own / best
            self.features[f"{channel.name}_score"][part] = own
            ranks = reciprocal_ranks(
                top, chunk.items, np.where(candidates < chunk.items, candidates, -1)
            )
            self.features[f"{channel.name}_rank"][part] = ranks
        for scorer in self._scorers:
            self.features[scorer.name][part] = gather(scorer.score(chunk), candidates)
        self._judge(
            part, chunk, wanted, {c.name: t for c, t in zip(self._channels, tops)}, candidates
        )

    def _top(self, channel: RetrievalChannel, scores: Floats, chunk: Chunk) -> Ints:
        if not channel.personal:
            row = (
                np.where(scores[0] > 0, scores[0], -np.inf) if channel.needs_evidence else scores[0]
            )
            seen = chunk.seen if self._exclude_seen else np.zeros_like(chunk.seen)
            return top_of_one(row, seen, 2 * self._count)
        barred = scores <= 0 if channel.needs_evidence else np.zeros(scores.shape, bool)
        if self._exclude_seen:
            barred |= chunk.seen
        return top_items(np.where(barred, np.float32(-np.inf), scores), 2 * self._count)

    def _judge(
        self, part: Longs, chunk: Chunk, wanted: Ints, tops: dict[str, Ints], candidates: Ints
    ) -> None:
        right = self._positive[part] & (wanted >= 0)
        if self._exclude_seen:
            known = (wanted >= 0) & (wanted < chunk.items)
            safe = np.where(known, wanted, 0).astype(np.int64)
            right &= ~(known & np.take_along_axis(chunk.seen, safe, axis=1))
        self.positives[part] = right.sum(axis=1)
        for name, top in {**tops, "blend": candidates}.items():
            top = top[:, : self._count]
            self.hits[name][part] = (right & (locate(top, wanted) >= 0)).sum(axis=1)


def retrieve(
    log: Events,
    points: Points,
    refits: Refits,
    truth: Truth,
    positive: NDArray[np.bool_],
    *,
    users: Codes,
    items: Codes,
    channels: Sequence[RetrievalChannel],
    quotas: Sequence[float],
    scorers: Sequence[Scorer],
    item_to_item: ItemToItem,
    count: int,
    exclude_seen: bool,
    inject: bool,
    threads: int,
) -> Retrieved:
    """Candidates for requests, from channels that only saw what lies before.

    Args:
        log: consumed items; ``points``, ``truth`` refer to its rows.
        points: B requests by time; those before the first refit are dropped.
        refits: the plan.
        truth: what each user consumed next, [B, S].
        positive: [B, S] which of it is relevant.
        users, items: codes.
        channels, quotas: retrievers and their shares.
        scorers: further scores kept as features.
        item_to_item: learns with the channels (it may be one of them).
        count: N.
        exclude_seen: whether consumed items are left out.
        inject: put ``truth`` among the candidates.
        threads: worker threads.
    """
    served = np.flatnonzero(refits.point_block >= 0)
    points = points.take(served)
    refits = Refits(refits.moments, refits.row_block, refits.point_block[served])
    truth = Truth(truth.rows[served], truth.real[served])
    worker = _Retriever(
        log, truth, positive[served], channels, quotas, scorers, count,
        exclude_seen=exclude_seen, inject=inject,
    )  # fmt: skip
    learners = [c.advance for c in channels if c is not item_to_item] + [item_to_item.advance]
    walk(
        log, points, refits, users=users, items=items, learners=learners, work=worker.serve,
        threads=threads,
    )  # fmt: skip
    drafts = Drafts(
        points, worker.candidates, worker.position, truth.rows, worker.score, worker.features
    )
    return Retrieved(drafts, worker.hits, worker.positives)


def shown_drafts(shown: Events, points: Points, rows: Longs, offsets: Longs) -> Drafts:
    """Drafts of windows of exposures: candidates are what was shown, in the order shown."""
    lengths = np.diff(offsets)
    width = int(lengths.max(initial=1))
    real = np.arange(width) < lengths[:, None]
    log_row = np.zeros((len(points), width), dtype=np.int64)
    log_row[real] = rows
    candidates = np.where(real, shown.item[log_row], -1).astype(np.int32)
    position = np.where(real, np.arange(width), -1).astype(np.int32)
    return Drafts(points, candidates, position, log_row)


def linked_features(
    log: Events,
    points: Points,
    refits: Refits,
    candidates: Ints,
    *,
    users: Codes,
    items: Codes,
    scorers: Sequence[Scorer],
    item_to_item: ItemToItem,
    threads: int,
) -> dict[str, Floats]:
    """[B, N] a scorer for given candidates; 0 before the first refit."""
    out = {s.name: np.zeros(candidates.shape, np.float32) for s in scorers}

    def work(part: Longs, chunk: Chunk) -> None:
        for scorer in scorers:
            out[scorer.name][part] = gather(scorer.score(chunk), candidates[part])

    walk(
        log, points, refits, users=users, items=items, learners=[item_to_item.advance], work=work,
        threads=threads,
    )  # fmt: skip
    return out
