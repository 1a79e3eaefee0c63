"""Candidate protocols: the candidates of a request, and what counts as relevant.

- ``exposed``: the candidates are the shown items; feedback is real.
- ``retrieved``: the candidates come from the retriever; an item consumed later counts only if it
  was retrieved.
- ``injected``: consumed items are put among retrieved ones, as in the paper. Rankers can exploit
  this; every table carries ``INJECTED_WARNING``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from goalrank.compute import Executor
from goalrank.features import FeaturePlan
from goalrank.logs.candidates.features import LogFeatures
from goalrank.logs.candidates.pending import PendingRequests
from goalrank.logs.candidates.retriever import Retriever
from goalrank.logs.events.arrays import Events, Ints, Longs, ragged_ranges
from goalrank.logs.events.consumption import ConsumptionLog
from goalrank.logs.events.request_points import RequestPoints
from goalrank.logs.events.windows import Windows
from goalrank.logs.retrieval.channel import Chunk, ItemScorer, RetrievalChannel
from goalrank.logs.retrieval.channel_lists import scored
from goalrank.logs.retrieval.item_to_item import ItemToItem
from goalrank.logs.retrieval.learned_blend import BlendLearner
from goalrank.logs.retrieval.learnt import LearntRetrieval
from goalrank.logs.retrieval.refit_scoring import ChunkResult, one_ahead, score_refits
from goalrank.logs.spill.buckets import chunk_ranges
from goalrank.requests import mix64

__all__ = ["INJECTED_WARNING", "ExposedRequests", "RequestSource", "RetrievedRequests"]

INJECTED_WARNING = (
    "injected candidates: the positives were put in by hand beside retrieved items, so they stand "
    "out by not being what the retriever brings. A baseline, sorting by minus the "
    "retriever's score, scores very high here: results mostly measure how well a model spots "
    "injected items. Print that baseline beside every result, and prefer protocol 'retrieved'."
)

_CELLS = 100_000  # candidates that are worked on together


class RequestSource:
    """Requests of a log in order of time, made batch by batch.

    Attributes:
        points: B requests by time.
        answers: rows that ``log_row`` of the requests refers to.
        features: names of the candidate features, in their order.
        counted: computes those of them that follow from rows.
        learnt: called with `shares` when all batches were made, it gives what retrieval learnt.
    """

    points: RequestPoints
    answers: Events
    features: tuple[str, ...]
    counted: LogFeatures
    learnt: Callable[[dict[str, float]], LearntRetrieval | None]

    @property
    def plan(self) -> FeaturePlan:
        """The features that are computed from rows."""
        return self.counted.plan

    @property
    def shares(self) -> dict[str, float]:
        """Channel → its share of the candidates at the end; empty without retrieval."""
        return {}

    def featured(self, pending: PendingRequests) -> PendingRequests:
        """Requests with the features that are computed from rows.

        Args:
            pending: B requests by time, none earlier than in the call before.
        """
        counted = self.counted.of(pending.points, pending.candidates)
        return replace(pending, features={**pending.features, **counted})

    def batches(self) -> Iterator[tuple[PendingRequests, ChunkResult]]:
        """Consecutive requests, all in the end, and what retrieval counted about them.

        Features that are computed from rows are not among theirs; see `featured`.

        Yields:
            Requests, and ``positives`` and ``hits NAME`` of each, or nothing.
        """
        raise NotImplementedError


def _joined(results: Sequence[ChunkResult]) -> ChunkResult:
    """Results of consecutive chunks as one."""
    return {name: np.concatenate([r[name] for r in results]) for name in results[0]}


def _batched(
    scored: Iterator[tuple[Longs, ChunkResult]], width: int
) -> Iterator[tuple[Longs, ChunkResult]]:
    """Chunks put together to batches of about `_CELLS` candidates, `width` per request."""
    parts: list[Longs] = []
    results: list[ChunkResult] = []
    for part, result in scored:
        parts.append(part)
        results.append(result)
        if sum(map(len, parts)) * width >= _CELLS:
            yield np.concatenate(parts), _joined(results)
            parts, results = [], []
    if parts:
        yield np.concatenate(parts), _joined(results)


def _named(result: ChunkResult, kind: str) -> ChunkResult:
    """The arrays ``kind NAME``, by NAME."""
    prefix = f"{kind} "
    return {k.removeprefix(prefix): v for k, v in result.items() if k.startswith(prefix)}


class RetrievedRequests(RequestSource):
    """Requests with candidates from channels that learned only from rows before each request.

    Args:
        log: the log as arrays.
        points: B requests by time, none before the first refit.
        moments: [K] microseconds of the refits.
        counted: features from the log's rows.
        channels: retrievers.
        quotas: share of the candidates per retriever, to begin with.
        learn_quotas: whether shares follow what earlier requests show; see `BlendLearner`.
        scorers: further models whose scores become features.
        item_to_item: learns with the channels (it may be one of them).
        horizon: next interactions that are the truth of a request.
        count: N.
        exclude_seen: whether consumed items are left out.
        inject: whether to put the next interactions among the candidates.
        executor: executor of the retrieval.
    """

    def __init__(
        self,
        log: ConsumptionLog,
        points: RequestPoints,
        moments: Longs,
        counted: LogFeatures,
        *,
        channels: Sequence[RetrievalChannel],
        quotas: Sequence[float],
        learn_quotas: bool,
        scorers: Sequence[ItemScorer],
        item_to_item: ItemToItem,
        horizon: int,
        count: int,
        exclude_seen: bool,
        inject: bool,
        executor: Executor,
    ) -> None:
        self.points, self.answers = points, log.events
        self._log, self._moments, self.counted = log, moments, counted
        self._channels, self._count, self._executor = channels, count, executor
        hashes = mix64(log.users.hashes[points.user] ^ mix64(points.time.astype(np.uint64)))
        self._learner = BlendLearner(quotas, hashes, points.end, fixed=inject or not learn_quotas)
        self._retriever = Retriever(
            log.history, points, channels, self._learner, scorers,
            target=log.raw.target, horizon=horizon, count=count,
            exclude_seen=exclude_seen, inject=inject,
        )  # fmt: skip
        self._learners = [
            *(channel.advance for channel in channels if channel is not item_to_item),
            item_to_item.advance,
        ]
        linked = [f"{c.name}_{what}" for c in channels for what in ("score", "rank")]
        self.features = (*counted.names, *linked, *(scorer.name for scorer in scorers))

    @property
    def shares(self) -> dict[str, float]:
        """See `RequestSource.shares`."""
        return dict(zip((channel.name for channel in self._channels), self._learner.shares))

    def batches(self) -> Iterator[tuple[PendingRequests, ChunkResult]]:
        """See `RequestSource.batches`."""
        scored = score_refits(
            self._log.history, self.points, self._moments,
            users=self._log.users, items=self._log.items, learners=self._learners,
            score=self._retriever.serve, executor=self._executor, before=self._learner.advance,
        )  # fmt: skip
        batches = _batched(self._judged(scored), self._count)
        for part, result in one_ahead(batches) if self._executor.workers > 1 else batches:
            pending = PendingRequests(
                self.points.take(part), result["candidates"], result["position"],
                result["log_row"], result["score"], _named(result, "feature"),
            )  # fmt: skip
            hits = {f"hits {name}": values for name, values in _named(result, "hits").items()}
            yield pending, {"positives": result["positives"], **hits}

    def _judged(
        self, scored: Iterator[tuple[Longs, ChunkResult]]
    ) -> Iterator[tuple[Longs, ChunkResult]]:
        """Have the learner of the blend see each chunk before the next refit."""
        for part, result in scored:
            self._learner.keep(part, result.pop("choices"), result["positives"])
            yield part, result


class ExposedRequests(RequestSource):
    """Requests of windows of exposures; the candidates are the items, in order.

    Items that were not shown are candidates without a position and without feedback. Linked
    features are 0 before the first refit.

    Args:
        log: the log as arrays.
        windows: B windows by time.
        moments: [K] microseconds of the refits.
        counted: features from the log's rows.
        scorers: models of the linked features.
        item_to_item: the model that the refits train.
        executor: executor of the scoring.
    """

    def __init__(
        self,
        log: ConsumptionLog,
        windows: Windows,
        moments: Longs,
        counted: LogFeatures,
        *,
        scorers: Sequence[ItemScorer],
        item_to_item: ItemToItem,
        executor: Executor,
    ) -> None:
        self.points, self.answers = windows.points, windows.answers
        self._log, self._moments, self.counted = log, moments, counted
        self._scorers, self._item_to_item, self._executor = scorers, item_to_item, executor
        self._lists = _Lists(log.events, windows)
        own, linked = log.raw.features, (scorer.name for scorer in scorers)
        self.features = (*own, *counted.names, *linked)

    def batches(self) -> Iterator[tuple[PendingRequests, ChunkResult]]:
        """See `RequestSource.batches`."""
        made = score_refits(
            self._log.history, self.points, self._moments,
            users=self._log.users, items=self._log.items, learners=[self._item_to_item.advance],
            score=_ListScorer(self._scorers, self._lists).score, executor=self._executor,
        )  # fmt: skip
        for part, linked in _batched(self._all_points(made), self._lists.width):
            lists = self._lists.requests(self.points, part)
            real, rows = lists.candidates >= 0, lists.log_row
            own = {
                name: np.where(real, self._log.events.values[name][rows], 0.0).astype(np.float32)
                for name in self._log.raw.features
            }
            yield replace(lists, features={**own, **linked}), {}

    def _all_points(
        self, scored: Iterator[tuple[Longs, ChunkResult]]
    ) -> Iterator[tuple[Longs, ChunkResult]]:
        """The chunks, with zeros for the requests before the first refit."""
        early = int(np.searchsorted(self.points.time, self._moments[:1]).sum())
        early = early if len(self._moments) else len(self.points)
        for rows in chunk_ranges(early, max(1, _CELLS // self._lists.width)):
            part = np.arange(rows.start, rows.stop)
            none = np.zeros((len(part), self._lists.width), np.float32)
            yield part, {scorer.name: none for scorer in self._scorers}
        yield from scored


class _Lists:
    """The items of windows of exposures as candidates."""

    def __init__(self, shown: Events, windows: Windows) -> None:
        self._shown, self._rows, self._offsets = shown, windows.rows, windows.offsets
        self.width = int(np.diff(windows.offsets).max(initial=1))

    def rows(self, part: Longs) -> tuple[Longs, NDArray[np.bool_]]:
        """Rows of the log per candidate, and which are real: [P, width] each."""
        lengths = self._offsets[part + 1] - self._offsets[part]
        real = np.arange(self.width) < lengths[:, None]
        rows = np.zeros((len(part), self.width), np.int64)
        rows[real] = self._rows[ragged_ranges(self._offsets[part], lengths)]
        return rows, real

    def candidates(self, part: Longs) -> Ints:
        """Codes of the candidates of requests: [P, width], -1 for none."""
        rows, real = self.rows(part)
        return np.where(real, self._shown.item[rows], -1).astype(np.int32)

    def requests(self, points: RequestPoints, part: Longs) -> PendingRequests:
        """Requests of some windows, without features."""
        rows, real = self.rows(part)
        candidates = np.where(real, self._shown.item[rows], -1).astype(np.int32)
        shown = self._shown.shown_at(rows.ravel()).reshape(rows.shape)
        position = np.where(real & shown, np.arange(self.width), -1).astype(np.int32)
        carried, score = self._shown.carried, None
        if carried is not None and "candidate_score" in carried.columns:
            own = carried["candidate_score"].gather(rows.ravel()).to_numpy()  # NaN: none
            values = own.astype(np.float32).reshape(rows.shape)
            score = np.where(real, values, np.float32(0))
        return PendingRequests(points.take(part), candidates, position, rows, score)


@dataclass(frozen=True)
class _ListScorer:
    """Scores of the candidates that windows have, by several models."""

    scorers: Sequence[ItemScorer]
    lists: _Lists

    def score(self, part: Longs, chunk: Chunk) -> ChunkResult:
        """Scores of each scorer for the candidates of ``part``: name → [P, width]."""
        return {**scored(self.scorers, chunk, self.lists.candidates(part))}
