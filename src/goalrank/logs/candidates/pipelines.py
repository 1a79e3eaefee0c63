"""Pipelines from a log to requests: for exposures, and for retrieved or injected candidates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from goalrank.compute import Executor
from goalrank.errors import DataError
from goalrank.logs.candidates.features import Affinity, counted_features
from goalrank.logs.candidates.pending import PendingRequests
from goalrank.logs.candidates.protocols import (
    ItemScorer,
    Retrieved,
    linked_features,
    retrieve,
    window_requests,
)
from goalrank.logs.events.consumption import ConsumptionLog
from goalrank.logs.events.request_points import future_interactions, place_injected, place_requests
from goalrank.logs.events.windows import cut_windows
from goalrank.logs.options import ImportOptions
from goalrank.logs.retrieval.channel import (
    Chunk,
    RetrievalChannel,
)
from goalrank.logs.retrieval.channels import CHANNELS, ChannelInputs
from goalrank.logs.retrieval.item_to_item import (
    ItemToItem,
)
from goalrank.logs.retrieval.refit_scoring import (
    worker_count,
)
from goalrank.logs.retrieval.refits import (
    plan_refits,
)

__all__ = ["enough_positives", "exposed_requests", "retrieved_requests"]


def _affinities(log: ConsumptionLog, depth: int) -> list[Affinity]:
    if log.raw.items is None:
        return []
    return [Affinity(log.raw.items, column, log.items, depth) for column in log.raw.categories]


class _Transition:
    """Links from the latest history item alone, or from the recent ones."""

    def __init__(self, model: ItemToItem, *, last: bool) -> None:
        self.name = "transition_last" if last else "transition_recent"
        self._score = model.score_last if last else model.score

    def score(self, chunk: Chunk) -> NDArray[np.float32]:
        """Score all known items: [B, I]."""
        return self._score(chunk)


def exposed_requests(
    log: ConsumptionLog, options: ImportOptions, executor: Executor
) -> tuple[PendingRequests, dict[str, int], ConsumptionLog]:
    """Make the requests of an exposure log.

    Args:
        log: the log as arrays.
        options: settings of the import.
        executor: executor of the scoring; links are learned in this process.

    Returns:
        Requests, counts of what was dropped by reason, and the log with the feedback of an item's
        repeats within a request merged.

    Raises:
        DataError: no window has enough exposures.
    """
    gap = log.raw.max_gap_minutes
    windows = cut_windows(log.events, options, log.events.request, gap)
    points = windows.points
    if len(points) == 0:
        raise DataError(
            f"{log.raw.dataset}: no window of {options.min_list} exposures or more within "
            f"{options.max_gap_minutes or gap:g} minutes of each other; lower min_list or raise "
            "max_gap_minutes"
        )
    pending = window_requests(log.events, points, windows.rows, windows.offsets)
    refits = plan_refits(log.history.time, points.time, options.first_fit, options.refit_growth)
    model = ItemToItem(log.history, len(log.items))
    scorers: list[ItemScorer] = [
        _Transition(model, last=True),
        _Transition(model, last=False),
        *_affinities(log, options.history),
    ]
    counted = log.events.only(log.events.shown) if not log.events.shown.all() else log.events
    features = {
        name: np.where(
            pending.candidates >= 0, log.events.values[name][pending.log_row], 0.0
        ).astype(np.float32)
        for name in log.raw.features
    }
    features |= counted_features(
        counted, points, pending.candidates, log.raw.rate_kinds, repeats=True
    )
    features |= linked_features(
        log.history, points, refits, pending.candidates,
        users=log.users, items=log.items, scorers=scorers, item_to_item=model,
        executor=executor,
    )  # fmt: skip
    log.raw.notes.merge("exposures of an item repeated within a list", windows.repeats)
    notes = {
        "exposures_in_windows": len(windows.rows),
        "exposures_repeated": windows.repeats,
        "exposures_outside_windows": len(log.events) - len(windows.rows) - windows.repeats,
    }
    return replace(pending, features=features), notes, replace(log, events=windows.answers)


def _channels(
    log: ConsumptionLog, model: ItemToItem, confidence: NDArray[np.float32], options: ImportOptions
) -> list[RetrievalChannel]:
    inputs = ChannelInputs(
        log.history,
        len(log.items),
        len(log.users),
        confidence=confidence,
        links=model,
        factors=options.factors,
        threads=worker_count(options.threads),
        seed=options.seed,
    )
    return [CHANNELS[name](inputs) for name in options.shares]


def retrieved_requests(
    log: ConsumptionLog, protocol: str, options: ImportOptions, executor: Executor
) -> tuple[Retrieved, dict[str, int]]:
    """Make requests with retrieved candidates.

    Args:
        log: the log as arrays.
        protocol: ``retrieved`` or ``injected``.
        options: settings of the import.
        executor: executor of retrieval and scoring.

    Returns:
        Requests, and counts of what was dropped by reason.
    """
    inject = protocol == "injected"
    horizon = options.injected if inject else options.horizon
    points = (
        place_injected(log.events, horizon, options.start_fraction)
        if inject
        else place_requests(log.events, options.stride, options.start_fraction, horizon)
    )
    future = future_interactions(log.events, points, horizon)
    positive = log.events.values[log.raw.target][future.rows] > 0
    refits = plan_refits(log.history.time, points.time, options.first_fit, options.refit_growth)
    # Items without positive feedback still show preferences, with less weight.
    liked = log.events.values[log.raw.target] > 0
    model = ItemToItem(
        log.history,
        len(log.items),
        vote_weight=np.where(liked, 1.0, 0.5).astype("f4"),
        threads=worker_count(options.threads),
    )
    confidence = np.where(liked, 1.0, 0.3).astype(np.float32)
    channels = _channels(log, model, confidence, options)
    scorers: list[ItemScorer] = [_Transition(model, last=True), *_affinities(log, options.history)]
    if model not in channels:
        scorers.insert(1, _Transition(model, last=False))
    out = retrieve(
        log.history, points, refits, future, positive,
        users=log.users, items=log.items, channels=channels,
        quotas=list(options.shares.values()), learn_quotas=options.quotas is None, scorers=scorers, item_to_item=model,
        count=options.candidates, exclude_seen=options.exclude_seen, inject=inject,
        executor=executor,
    )  # fmt: skip
    pending = out.pending
    counted = counted_features(
        log.events, pending.points, pending.candidates, log.raw.rate_kinds,
        repeats=not options.exclude_seen,
    )  # fmt: skip
    pending = replace(pending, features={**counted, **pending.features})
    notes = {"dropped_before_first_refit": len(points) - len(pending)}
    return replace(out, pending=pending), notes


def enough_positives(
    pending: PendingRequests, log: ConsumptionLog, protocol: str, options: ImportOptions
) -> tuple[NDArray[np.int64], int]:
    """Indices of the requests with at least two candidates and enough positives.

    Args:
        pending: B requests.
        log: the log as arrays.
        protocol: protocol of the import.
        options: settings of the import.

    Returns:
        The indices, and the number of requests with a single candidate.
    """
    least = options.min_positives
    if least is None:
        least = 0 if protocol == "exposed" else 1
    positive = (log.events.values[log.raw.target][pending.log_row] > 0) & (pending.position >= 0)
    some = (pending.candidates >= 0).sum(axis=1) >= 2
    return np.flatnonzero((positive.sum(axis=1) >= least) & some), int((~some).sum())
