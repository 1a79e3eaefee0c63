"""Candidate protocols: what a request ranks, and what counts as the answer.

- ``exposed``: the items that were really shown; feedback is real.
- ``retrieved``: what the retriever brings; a later consumed item counts only if it was retrieved.
- ``injected``: the consumed items are put in beside retrieved ones, as in the paper. Easy to
  game; every table carries ``INJECTED_WARNING``.
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
from goalrank.logs.events.arrays import Codes, Events, Ints, Longs, mix64
from goalrank.logs.events.request_points import RequestPoints, Truth
from goalrank.logs.retrieval.blending import (
    blend,
    reciprocal_ranks,
    top_items,
    top_of_one,
)
from goalrank.logs.retrieval.channel import (
    Chunk,
    RetrievalChannel,
)
from goalrank.logs.retrieval.item_to_item import (
    ItemToItem,
)
from goalrank.logs.retrieval.learned_blend import BlendLearner
from goalrank.logs.retrieval.refit_walk import (
    Answer,
    walk,
)
from goalrank.logs.retrieval.refits import (
    Refits,
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
    """PendingRequests with retrieved candidates, and what recall needs.

    Attributes:
        drafts: all requests after the first refit.
        hits: name of channel (or ``blend``) -> [B] positives among its first N.
        positives: [B] positives of each request, retrieved or not.
        shares: channel -> its share of the candidates at the end of the log.
    """

    drafts: PendingRequests
    hits: dict[str, NDArray[np.int64]]
    positives: NDArray[np.int64]
    shares: dict[str, float]


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
        learner: BlendLearner,
        scorers: Sequence[Scorer],
        count: int,
        *,
        exclude_seen: bool,
        inject: bool,
    ) -> None:
        self._log, self._truth, self._positive = log, truth, positive
        self._channels, self._learner, self._scorers = channels, learner, scorers
        self._count, self._exclude_seen, self._inject = count, exclude_seen, inject

    def serve(self, part: Longs, chunk: Chunk) -> Answer:
        """Retrieve, blend, score and judge the requests ``part``.

        Returns:
            candidates, position, score, positives; ``feature NAME`` and ``hits NAME``.
        """
        wanted = np.where(self._truth.real[part], self._log.item[self._truth.rows[part]], -1)
        scores = [channel.score(chunk) for channel in self._channels]
        tops = [self._top(c, s, chunk) for c, s in zip(self._channels, scores)]
        forced = wanted if self._inject else None
        shares = self._learner.shares
        candidates = blend(tops, shares, self._count, chunk.items, forced)
        score = np.zeros(candidates.shape, np.float32)
        features: Answer = {}
        for channel, quota, values, top in zip(self._channels, shares, scores, tops):
            own = gather(values, candidates)
            best = np.maximum(np.abs(own).max(axis=1, keepdims=True), np.float32(1e-12))
            score += np.float32(quota) * own / best
            features[f"feature {channel.name}_score"] = own
            ranks = reciprocal_ranks(
                top, chunk.items, np.where(candidates < chunk.items, candidates, -1)
            )
            features[f"feature {channel.name}_rank"] = ranks
        for scorer in self._scorers:
            features[f"feature {scorer.name}"] = gather(scorer.score(chunk), candidates)
        named = {c.name: t for c, t in zip(self._channels, tops)}
        return {
            "candidates": candidates,
            "position": locate(candidates, wanted),
            "score": score,
            **features,
            **self._judge(part, chunk, wanted, {**named, "blend": candidates}),
            "choices": self._choices(part, chunk, wanted, tops),
        }

    def _choices(self, part: Longs, chunk: Chunk, wanted: Ints, tops: list[Ints]) -> Longs:
        """[P, choices] positives that each choice of shares would have brought; -1 = not judged."""
        learner = self._learner
        out = np.full((len(part), len(learner.choices)), -1, np.int64)
        rows = np.flatnonzero(learner.judged[part])
        if len(rows) == 0:
            return out
        right = self._right(part, chunk, wanted)[rows]
        few = [top[rows] for top in tops]
        for number, shares in enumerate(learner.choices):
            found = blend(few, shares, self._count, chunk.items)
            out[rows, number] = (right & (locate(found, wanted[rows]) >= 0)).sum(axis=1)
        return out

    def _top(self, channel: RetrievalChannel, scores: Floats, chunk: Chunk) -> Ints:
        if not channel.personal:
            row = (
                np.where(scores[0] > 0, scores[0], -np.inf) if channel.needs_evidence else scores[0]
            )
            seen = chunk.seen if self._exclude_seen else np.zeros_like(chunk.seen)
            return top_of_one(row, seen, 2 * self._count)
        barred = chunk.seen if self._exclude_seen else None
        if channel.needs_evidence:
            barred = scores <= 0 if barred is None else (scores <= 0) | barred
        return top_items(scores, 2 * self._count, barred)

    def _right(self, part: Longs, chunk: Chunk, wanted: Ints) -> NDArray[np.bool_]:
        """[P, S] positives that a retriever may bring."""
        right = self._positive[part] & (wanted >= 0)
        if self._exclude_seen:
            known = (wanted >= 0) & (wanted < chunk.items)
            safe = np.where(known, wanted, 0).astype(np.int64)
            right &= ~(known & np.take_along_axis(chunk.seen, safe, axis=1))
        return right

    def _judge(self, part: Longs, chunk: Chunk, wanted: Ints, tops: dict[str, Ints]) -> Answer:
        right = self._right(part, chunk, wanted)
        hits = {
            f"hits {name}": (right & (locate(top[:, : self._count], wanted) >= 0)).sum(axis=1)
            for name, top in tops.items()
        }
        return {"positives": right.sum(axis=1), **hits}


class _Kept:
    """Answers about parts, put together to arrays over all B requests."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.arrays: Answer = {}

    def keep(self, part: Longs, answer: Answer) -> None:
        """Take in what was said of the requests ``part``."""
        for name, values in answer.items():
            if name not in self.arrays:
                self.arrays[name] = np.zeros((self._rows, *values.shape[1:]), values.dtype)
            self.arrays[name][part] = values

    def named(self, kind: str) -> Answer:
        """The arrays called ``kind NAME``, by name."""
        start = f"{kind} "
        return {k.removeprefix(start): v for k, v in self.arrays.items() if k.startswith(start)}


def retrieve(
    log: Events,
    points: RequestPoints,
    refits: Refits,
    truth: Truth,
    positive: NDArray[np.bool_],
    *,
    users: Codes,
    items: Codes,
    channels: Sequence[RetrievalChannel],
    quotas: Sequence[float],
    learn_quotas: bool,
    scorers: Sequence[Scorer],
    item_to_item: ItemToItem,
    count: int,
    exclude_seen: bool,
    inject: bool,
    engine: Executor,
) -> Retrieved:
    """Candidates for requests, from channels that only saw what lies before.

    Args:
        log: consumed items; ``points``, ``truth`` refer to its rows.
        points: B requests by time; those before the first refit are dropped.
        refits: the plan.
        truth: what each user consumed next, [B, S].
        positive: [B, S] which of it is relevant.
        users, items: codes.
        channels, quotas: retrievers and their shares to begin with.
        learn_quotas: whether shares follow what earlier requests show; see `BlendLearner`.
        scorers: further scores kept as features.
        item_to_item: learns with the channels (it may be one of them).
        count: N.
        exclude_seen: whether consumed items are left out.
        inject: put ``truth`` among the candidates.
        engine: where requests are served.
    """
    served = np.flatnonzero(refits.point_block >= 0)
    points = points.take(served)
    refits = Refits(refits.moments, refits.row_block, refits.point_block[served])
    truth = Truth(truth.rows[served], truth.real[served])
    hashes = mix64(users.hashes[points.user] ^ mix64(points.time.astype(np.uint64)))
    learner = BlendLearner(quotas, hashes, points.end, fixed=inject or not learn_quotas)
    worker = _Retriever(
        log, truth, positive[served], channels, learner, scorers, count,
        exclude_seen=exclude_seen, inject=inject,
    )  # fmt: skip
    learners = [c.advance for c in channels if c is not item_to_item] + [item_to_item.advance]
    kept = _Kept(len(points))

    def keep(part: Longs, answer: Answer) -> None:
        learner.keep(part, answer.pop("choices"), answer["positives"])
        kept.keep(part, answer)

    if len(points) == 0:  # nothing will be served, yet the arrays' shapes are asked for
        nothing = np.zeros(0, np.int64)
        kept.keep(nothing, _nothing(channels, scorers, count, truth.rows.shape[1]))
    walk(
        log, points, refits, users=users, items=items, learners=learners, work=worker.serve,
        keep=keep, engine=engine, before=learner.advance,
    )  # fmt: skip
    found = kept.arrays
    drafts = PendingRequests(
        points, found["candidates"], found["position"], truth.rows, found["score"],
        kept.named("feature"),
    )  # fmt: skip
    names = [channel.name for channel in channels]
    return Retrieved(
        drafts, kept.named("hits"), found["positives"], dict(zip(names, learner.shares))
    )


def _nothing(
    channels: Sequence[RetrievalChannel], scorers: Sequence[Scorer], count: int, horizon: int
) -> Answer:
    """What `_Retriever.serve` says of no requests."""
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


def shown_drafts(
    shown: Events, points: RequestPoints, rows: Longs, offsets: Longs
) -> PendingRequests:
    """PendingRequests of windows of exposures: candidates are what was shown, in the order shown.

    Rows that were not shown are candidates without a position and without feedback.
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
        values = shown.carried["candidate_score"].fill_null(0.0).to_numpy().astype(np.float32)
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
    scorers: Sequence[Scorer],
    item_to_item: ItemToItem,
    engine: Executor,
) -> dict[str, Floats]:
    """[B, N] a scorer for given candidates; 0 before the first refit."""
    kept = _Kept(len(points))
    kept.arrays = {s.name: np.zeros(candidates.shape, np.float32) for s in scorers}
    walk(
        log, points, refits, users=users, items=items, learners=[item_to_item.advance],
        work=partial(_link, scorers, candidates), keep=kept.keep, engine=engine,
    )  # fmt: skip
    return kept.arrays


def _link(scorers: Sequence[Scorer], candidates: Ints, part: Longs, chunk: Chunk) -> Answer:
    """Each scorer's word on the candidates of ``part``."""
    return {s.name: gather(s.score(chunk), candidates[part]) for s in scorers}
