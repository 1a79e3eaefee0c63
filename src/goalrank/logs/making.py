"""From a raw log to requests with their parts of the split, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.compute import Executor
from goalrank.errors import DataError
from goalrank.logs.candidates.assembly import RequestNumbers, assemble
from goalrank.logs.candidates.ledger import RequestLedger
from goalrank.logs.candidates.pending import shuffle_candidates
from goalrank.logs.candidates.pipelines import exposed_requests, retrieved_requests
from goalrank.logs.candidates.protocols import INJECTED_WARNING, RequestSource
from goalrank.logs.candidates.store import RequestStore
from goalrank.logs.events.consumption import ConsumptionLog
from goalrank.logs.events.ordering import is_ordered
from goalrank.logs.events.split import DROPPED, TEST, TRAIN, split_points
from goalrank.logs.options import ImportOptions, Protocol
from goalrank.logs.readers.raw_log import RawLog
from goalrank.logs.report import check_usable, make_report, no_requests_message
from goalrank.logs.retrieval.learnt import LearntRetrieval
from goalrank.logs.spill.folder import Spill
from goalrank.logs.text.text_vectors import TextVectors
from goalrank.requests import LogRule, TableInfo

__all__ = ["MadeRequests", "make_requests"]


@dataclass(frozen=True)
class MadeRequests:
    """Requests of a log, and the part of the split that each is in.

    Attributes:
        store: the requests.
        part: [B] part of each: train, validation, test or dropped.
        report: of the import.
        learnt: what retrieval learnt of the log; None before its first fit.
        text: how the items' texts became vectors, where they did.
    """

    store: RequestStore
    part: NDArray[np.int8]
    report: dict[str, Any]
    learnt: LearntRetrieval | None = None
    text: TextVectors | None = None


def make_requests(
    log: ConsumptionLog,
    protocol: Protocol,
    options: ImportOptions,
    executor: Executor,
    spill: Spill,
) -> MadeRequests:
    """Make the requests of a log.

    Args:
        log: the log as arrays.
        protocol: where candidates come from.
        options: settings of the import.
        executor: executor of retrieval and scoring.
        spill: room for arrays and requests.

    Raises:
        DataError: nothing is left to train on.
    """
    if protocol == "exposed":
        requests, notes = exposed_requests(log, options, executor, spill)
    else:
        requests, notes = retrieved_requests(log, protocol, options, executor, spill)
    raw = log.raw
    info = _table_info(raw, protocol, options, requests)
    least = options.min_positives
    if least is None:
        least = 0 if protocol == "exposed" else 1
    ledger = RequestLedger(requests.points, requests.answers, raw.target, least)
    store = RequestStore(spill, info, raw.items, raw.users)
    _fill(store, ledger, requests, log, options, spill)
    part = _split(ledger, log, protocol, notes, options)
    check_usable(ledger, requests.answers, raw, part)
    store.fill_empty(part == TRAIN)
    report = make_report(log, info, ledger, part, notes, requests.shares, options)
    return MadeRequests(store, part, report, requests.learnt(requests.shares), raw.text)


def _table_info(
    raw: RawLog, protocol: Protocol, options: ImportOptions, requests: RequestSource
) -> TableInfo:
    return TableInfo(
        dataset=raw.dataset,
        protocol=protocol,
        feedback_kinds=raw.kinds,
        target=raw.target,
        candidate_features=requests.features if options.computed_features else raw.features,
        computed=requests.plan.described if options.computed_features else None,
        log=_log_rule(raw, protocol, options),
        warning=INJECTED_WARNING if protocol == "injected" else None,
    )


def _log_rule(raw: RawLog, protocol: Protocol, options: ImportOptions) -> LogRule | None:
    """How rows were read; None where a reader does not say what its strength is made of."""
    strength = raw.strength_parts or ((raw.strength,) if raw.strength in raw.kinds else ())
    if not strength:
        return None
    return LogRule(
        shape=raw.shape,
        strength=strength,
        depth=options.history,
        positives_only=raw.positives_only,
        exclude_seen=protocol != "exposed" and options.exclude_seen,
        ordered=is_ordered(raw.events),
        seed=options.seed,
        like_threshold=options.like_threshold if {"rating", "like"} <= set(raw.kinds) else None,
    )


def _fill(
    store: RequestStore,
    ledger: RequestLedger,
    requests: RequestSource,
    log: ConsumptionLog,
    options: ImportOptions,
    spill: Spill,
) -> None:
    """Make the requests batch by batch; those that are kept go to the store."""
    numbers = RequestNumbers()
    for pending, counts in requests.batches():
        kept = requests.featured(pending.take(np.flatnonzero(ledger.add(pending, counts))))
        names = store.info.candidate_features
        kept = replace(kept, features={name: kept.features[name] for name in names})
        shuffled = shuffle_candidates(kept, log.users, log.items, options.seed)
        store.add(
            assemble(
                shuffled, numbers.of(kept.points), log.history, requests.answers, log.raw.kinds,
                users=log.users, items=log.items, depth=options.history,
                strength=log.raw.strength,
            )
        )  # fmt: skip
        spill.release()


def _split(
    ledger: RequestLedger,
    log: ConsumptionLog,
    protocol: str,
    notes: dict[str, int],
    options: ImportOptions,
) -> NDArray[np.int8]:
    """Parts of the requests that are kept; what is left out is noted."""
    placed, said = len(ledger.points), log.raw.notes
    notes["requests_placed"] = placed
    if "exposures_outside_windows" in notes:
        said.leave_out(
            "rows", notes["exposures_outside_windows"], len(log.events),
            f"in lists of fewer than {options.min_list} items", "min_list",
        )  # fmt: skip
    if "dropped_before_first_refit" in notes:
        before = notes["dropped_before_first_refit"]
        said.leave_out(
            "requests", before, placed + before,
            f"before the retriever's first fit on {options.first_fit} rows", "first_fit",
        )  # fmt: skip
    kept = np.flatnonzero(ledger.kept)
    notes["dropped_single_candidate"] = ledger.single
    notes["dropped_few_positives"] = placed - ledger.single - len(kept)
    said.leave_out(
        "requests", ledger.single, placed, "a single candidate: nothing to rank", "min_list"
    )
    said.leave_out(
        "requests", notes["dropped_few_positives"], placed,
        "fewer positives among the candidates than asked for", "min_positives",
    )  # fmt: skip
    if not len(kept):
        raise DataError(no_requests_message(log, protocol, notes))
    part = split_points(ledger.points.take(kept), options.split, options.fractions)
    notes["dropped_reaching_into_next_part"] = int((part < 0).sum())
    said.leave_out(
        "requests", notes["dropped_reaching_into_next_part"], len(part),
        "answers that reach into the next part of the split", "split",
    )  # fmt: skip
    least = _min_test_candidates(log, options)
    short = (part == TEST) & (ledger.candidates[kept] < least)
    notes["dropped_short_in_test"] = int(short.sum())
    said.leave_out(
        "requests", notes["dropped_short_in_test"], len(part),
        f"test lists of fewer than {least} candidates", "min_test_list",
    )  # fmt: skip
    part[short] = DROPPED
    return part


def _min_test_candidates(log: ConsumptionLog, options: ImportOptions) -> int:
    """Minimum of candidates of a test request; see ``ImportOptions.min_test_list``."""
    if options.min_test_list is not None:
        return options.min_test_list
    return 6 if log.raw.shape == "exposures" and log.events.request is None else 2
