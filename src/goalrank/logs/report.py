"""Report of an import: counts, recall of the retrieval channels, warnings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.errors import DataError
from goalrank.logs.candidates.pending import PendingRequests
from goalrank.logs.candidates.protocols import Retrieved
from goalrank.logs.events.consumption import ConsumptionLog
from goalrank.logs.events.split import TEST, TRAIN, VALIDATION
from goalrank.logs.options import ImportOptions
from goalrank.logs.readers.raw_log import RawLog
from goalrank.requests import TableInfo

__all__ = ["check_usable", "make_report", "no_requests_message", "recall"]


def no_requests_message(raw: RawLog, protocol: str, notes: Mapping[str, int]) -> str:
    """Error message of an import without requests.

    Args:
        raw: the log.
        protocol: protocol of the import.
        notes: counts of dropped requests by reason.
    """
    return (
        f"{raw.dataset}: no request is left under protocol '{protocol}' ({dict(notes)}). The log "
        f"has {raw.events['user_id'].n_unique()} users, {raw.events['item_id'].n_unique()} items "
        f"and {raw.events.height} rows; options first_fit, stride, start_fraction and "
        "min_positives decide how many requests it yields"
    )


def make_report(
    raw: RawLog,
    info: TableInfo,
    log: ConsumptionLog,
    pending: PendingRequests,
    part: NDArray[np.int8],
    notes: Mapping[str, int],
    options: ImportOptions,
) -> dict[str, Any]:
    """Make the report of an import, as JSON values.

    Args:
        raw: the log.
        info: description of the tables.
        log: the log as arrays.
        pending: B requests.
        part: [B] part of each request: train, validation, test or dropped.
        notes: counts of dropped requests by reason.
        options: settings of the import.
    """
    positive = (log.events.values[raw.target][pending.log_row] > 0) & (pending.position >= 0)
    counts = {
        **raw.counts,
        "users": len(log.users),
        "items": len(log.items),
        **notes,
        "train": int((part == TRAIN).sum()),
        "validation": int((part == VALIDATION).sum()),
        "test": int((part == TEST).sum()),
    }
    return {
        "dataset": raw.dataset,
        "protocol": info.protocol,
        "target": info.target,
        "counts": counts,
        "candidates_per_request": round(float((pending.candidates >= 0).sum(axis=1).mean()), 3),
        "positives_per_request": round(float(positive.sum(axis=1).mean()), 3),
        "recall": {},
        "candidate_features": list(info.candidate_features),
        **raw.notes.to_dict(),
        "options": options.model_dump(mode="json"),
        "warnings": [
            *raw.warnings,
            *raw.notes.warnings(),
            *_missing_parts(part),
            *([info.warning] if info.warning else []),
        ],
    }


def _missing_parts(part: NDArray[np.int8]) -> list[str]:
    """A sentence per part of the split that got no request."""
    names = {VALIDATION: "validation", TEST: "test"}
    without = {
        VALIDATION: "training cannot stop early or choose between models",
        TEST: "nothing can be evaluated",
    }
    return [
        f"no request is left for {names[which]}, so {without[which]}; options: fractions, split"
        for which in (VALIDATION, TEST)
        if not (part == which).any()
    ]


def check_usable(pending: PendingRequests, log: ConsumptionLog, part: NDArray[np.int8]) -> None:
    """Refuse an import from which nothing can be learnt.

    Raises:
        DataError: no training request, or no positive among the training requests.
    """
    raw, train = log.raw, part == TRAIN
    if not train.any():
        raise DataError(
            f"{raw.dataset}: none of {len(part):,} requests is left to train on (validation "
            f"{int((part == VALIDATION).sum()):,}, test {int((part == TEST).sum()):,}); remedy: more "
            f"requests, or other shares (options: fractions, split)"
        )
    good = (log.events.values[raw.target][pending.log_row] > 0) & (pending.position >= 0)
    if not good[train].any():
        values = log.events.values[raw.target]
        raise DataError(
            f"{raw.dataset}: no training request has a positive of '{raw.target}' (values from "
            f"{float(values.min()):g} to {float(values.max()):g}); remedy: another feedback type "
            f"(option: target), or mend that column"
        )


def recall(
    retrieved: Retrieved, kept: NDArray[np.int64], part: NDArray[np.int8], count: int
) -> dict[str, Any]:
    """Recall of each channel: mean over requests of (positives among the first N) / positives.

    Args:
        retrieved: requests with retrieved candidates.
        kept: [B] indices of the requests that were not dropped.
        part: [B] part of each of those.
        count: N.

    Returns:
        ``at`` (N), ``all`` (all requests with a positive) and ``test`` (those not earlier than the
        first test request); channel → recall each.
    """
    times = retrieved.pending.points.time
    test = kept[part == TEST]
    from_test = times >= times[test].min() if len(test) else np.zeros(len(times), bool)
    out: dict[str, Any] = {
        "at": count,
        "shares": {name: round(s, 4) for name, s in retrieved.shares.items()},
    }
    for name, chosen in (("all", np.ones(len(times), bool)), ("test", from_test)):
        some = chosen & (retrieved.positives > 0)
        if some.any():
            out[name] = {
                channel: round(float((hits[some] / retrieved.positives[some]).mean()), 4)
                for channel, hits in retrieved.hits.items()
            }
    return out
