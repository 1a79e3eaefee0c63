"""Pipelines from a log to requests: for exposures, and for retrieved or injected candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.compute import Executor
from goalrank.errors import DataError
from goalrank.features import FeatureInputs, FeaturePlan
from goalrank.logs.candidates.affinity import Affinity, item_categories
from goalrank.logs.candidates.features import LogFeatures
from goalrank.logs.candidates.protocols import ExposedRequests, RequestSource, RetrievedRequests
from goalrank.logs.events.consumption import ConsumptionLog
from goalrank.logs.events.request_points import place_injected, place_requests
from goalrank.logs.events.windows import cut_windows
from goalrank.logs.options import ImportOptions
from goalrank.logs.retrieval.channel import ItemScorer, RetrievalChannel
from goalrank.logs.retrieval.channels import CHANNELS, ChannelInputs
from goalrank.logs.retrieval.item_to_item import ItemToItem
from goalrank.logs.retrieval.learnt import LearntRetrieval
from goalrank.logs.retrieval.link_votes import Transition
from goalrank.logs.retrieval.refit_scoring import worker_count
from goalrank.logs.retrieval.refits import done_refits, refit_moments
from goalrank.logs.spill.buckets import chunk_ranges
from goalrank.logs.spill.folder import Spill

__all__ = ["exposed_requests", "retrieved_requests"]

_VOTE, _CONFIDENCE = 0.5, 0.3  # of history items that were not liked


def _affinities(log: ConsumptionLog, depth: int) -> list[Affinity]:
    if log.raw.items is None:
        return []
    return [Affinity(log.raw.items, column, log.items, depth) for column in log.raw.categories]


def _plan(log: ConsumptionLog, options: ImportOptions, *, repeats: bool) -> FeaturePlan:
    """The features that are computed from the events of a log."""
    raw, items = log.raw, log.raw.items
    columns = () if items is None else raw.categories
    categories = {c: item_categories(items, c, log.items) for c in columns if items is not None}
    families = options.features if options.computed_features else ()
    return FeaturePlan(families, FeatureInputs(raw.rate_kinds, categories, repeats))


def _learnt(
    log: ConsumptionLog,
    options: ImportOptions,
    model: ItemToItem,
    scorers: Sequence[ItemScorer],
    **blend: Any,
) -> LearntRetrieval | None:
    """What the latest refit learnt; None before the first."""
    if model.matrix is None:
        return None
    raw = log.raw
    items = pl.DataFrame({"item_id": log.items.ids})
    if raw.items is not None:
        side = raw.items.select("item_id", *raw.categories)
        items = items.join(side, on="item_id", how="left", maintain_order="left")
        more = side.join(items, on="item_id", how="anti", maintain_order="left")
        items = pl.concat([items, more])
    arrays, lacking = LearntRetrieval.arrays_of([model, *blend.pop("channels", ())])
    refits = blend["refits"]
    rows = int(np.count_nonzero(log.history.time < refits[-1])) if refits else None
    return LearntRetrieval(
        items, model.matrix.shape[0], scorers=tuple(scorer.name for scorer in scorers),
        depth=options.history, growth=options.refit_growth, factors=options.factors,
        rows=rows, arrays=arrays, lacking=lacking, **blend,
    )  # fmt: skip


def exposed_requests(
    log: ConsumptionLog, options: ImportOptions, executor: Executor, spill: Spill
) -> tuple[RequestSource, dict[str, int]]:
    """Prepare the requests of an exposure log.

    Args:
        log: the log as arrays.
        options: settings of the import.
        executor: executor of the scoring; links are learned in this process.
        spill: room for arrays.

    Returns:
        Requests, whose answers have the feedback of an item's repeats within a request merged, and
        counts of what was dropped by reason.

    Raises:
        DataError: no window has enough exposures.
    """
    gap = log.raw.max_gap_minutes
    windows = cut_windows(log.events, options, log.events.request, gap)
    if len(windows.points) == 0:
        raise DataError(
            f"{log.raw.dataset}: no window of {options.min_list} exposures or more within "
            f"{options.max_gap_minutes or gap:g} minutes of each other; lower min_list or raise "
            "max_gap_minutes"
        )
    model = ItemToItem(log.history, len(log.items))
    scorers: list[ItemScorer] = [
        Transition(model, last=True),
        Transition(model, last=False),
        *_affinities(log, options.history),
    ]
    plan = _plan(log, options, repeats=True)
    counted = LogFeatures(log.events, len(log.items), plan, shown_only=True, spill=spill)
    moments = refit_moments(np.sort(log.history.time), options.first_fit, options.refit_growth)
    log.raw.notes.merge("exposures of an item repeated within a list", windows.repeats)
    notes = {
        "exposures_in_windows": len(windows.rows),
        "exposures_repeated": windows.repeats,
        "exposures_outside_windows": len(log.events) - len(windows.rows) - windows.repeats,
    }
    requests = ExposedRequests(
        log, windows, moments, counted, scorers=scorers, item_to_item=model, executor=executor
    )
    requests.learnt = lambda shares: _learnt(
        log,
        options,
        model,
        scorers,
        shares=shares,
        refits=done_refits(moments, windows.points.time),
    )
    return requests, notes


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
    log: ConsumptionLog, protocol: str, options: ImportOptions, executor: Executor, spill: Spill
) -> tuple[RequestSource, dict[str, int]]:
    """Prepare requests with retrieved candidates.

    Args:
        log: the log as arrays.
        protocol: ``retrieved`` or ``injected``.
        options: settings of the import.
        executor: executor of retrieval and scoring.
        spill: room for arrays.

    Returns:
        Requests, and counts of what was dropped by reason.
    """
    inject = protocol == "injected"
    horizon = options.injected if inject else options.horizon
    placed = (
        place_injected(log.events, horizon, options.start_fraction)
        if inject
        else place_requests(log.events, options.stride, options.start_fraction, horizon)
    )
    plan = _plan(log, options, repeats=not options.exclude_seen)
    counted = LogFeatures(log.events, len(log.items), plan, shown_only=False, spill=spill)
    moments = refit_moments(counted.times, options.first_fit, options.refit_growth)
    first = moments[0] if len(moments) else np.iinfo(np.int64).max
    points = placed.take(np.flatnonzero(placed.time >= first))
    # Items without positive feedback still show preferences, with less weight.
    model = ItemToItem(
        log.history,
        len(log.items),
        vote_weight=_weights(log, _VOTE, "vote-weight", spill),
        threads=worker_count(options.threads),
    )
    channels = _channels(log, model, _weights(log, _CONFIDENCE, "confidence", spill), options)
    scorers: list[ItemScorer] = [Transition(model, last=True), *_affinities(log, options.history)]
    if model not in channels:
        scorers.insert(1, Transition(model, last=False))
    requests = RetrievedRequests(
        log, points, moments, counted,
        channels=channels, quotas=list(options.shares.values()),
        learn_quotas=options.quotas is None, scorers=scorers, item_to_item=model,
        horizon=horizon, count=options.candidates, exclude_seen=options.exclude_seen,
        inject=inject, executor=executor,
    )  # fmt: skip
    requests.learnt = lambda shares: _learnt(
        log, options, model, scorers, channels=channels, shares=shares,
        vote_weight=_VOTE, confidence=_CONFIDENCE, count=options.candidates,
        exclude_seen=options.exclude_seen, refits=done_refits(moments, points.time),
    )  # fmt: skip
    return requests, {"dropped_before_first_refit": len(placed) - len(points)}


def _weights(log: ConsumptionLog, other: float, name: str, spill: Spill) -> NDArray[np.float32]:
    """1 per row of the history that was liked, `other` per row that was not: [E]."""
    target = log.events.values[log.raw.target]
    pieces = (
        np.where(target[part] > 0, 1.0, other) for part in chunk_ranges(len(target), spill.chunk)
    )
    return spill.stored(name, pieces, np.float32)
