"""Report of an import: counts, recall of the retrieval channels, warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.errors import DataError
from goalrank.logs.candidates.ledger import RequestLedger
from goalrank.logs.events.arrays import Events
from goalrank.logs.events.consumption import ConsumptionLog
from goalrank.logs.events.split import DROPPED, TEST, TRAIN, VALIDATION
from goalrank.logs.options import ImportOptions
from goalrank.logs.readers.raw_log import RawLog
from goalrank.logs.retrieval.blend_check import best_channel, blend_gain
from goalrank.requests import TableInfo
from goalrank.wording import counted, named_values

__all__ = ["check_usable", "make_report", "no_requests_message"]


def no_requests_message(log: ConsumptionLog, protocol: str, notes: Mapping[str, int]) -> str:
    """Error message of an import without requests.

    Args:
        log: the log as arrays.
        protocol: protocol of the import.
        notes: counts of dropped requests by reason.
    """
    dropped = named_values({name.replace("_", " "): count for name, count in notes.items()})
    return (
        f"{log.raw.dataset}: no request is left under protocol '{protocol}' "
        f"({dropped or 'none was dropped'}). The log "
        f"has {counted(int((np.diff(log.events.user_start) > 0).sum()), 'user')}, "
        f"{counted(len(np.unique(log.events.item)), 'item')} and {counted(len(log.events), 'row')}; options first_fit, stride, start_fraction and "
        "min_positives decide how many requests it yields"
    )


def make_report(
    log: ConsumptionLog,
    info: TableInfo,
    ledger: RequestLedger,
    part: NDArray[np.int8],
    notes: Mapping[str, int],
    shares: Mapping[str, float],
    options: ImportOptions,
) -> dict[str, Any]:
    """Make the report of an import, as JSON values.

    Args:
        log: the log as arrays.
        info: description of the tables.
        ledger: numbers of all requests.
        part: part of each request that is kept: train, validation, test or dropped.
        notes: counts of dropped requests by reason.
        shares: channel → its share of the candidates at the end of the log.
        options: settings of the import.
    """
    raw, kept = log.raw, ledger.kept
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
        "candidates_per_request": round(float(ledger.candidates[kept].mean()), 3),
        "positives_per_request": round(float(ledger.positives[kept].mean()), 3),
        "recall": _recall(ledger, part, shares, options.candidates) if shares else {},
        "candidate_features": list(info.candidate_features),
        **_text(raw),
        **raw.notes.to_dict(),
        "options": options.model_dump(mode="json"),
        "facts": list(raw.facts),
        "warnings": [
            *raw.warnings,
            *_missing_parts(part),
            *([info.warning] if info.warning else []),
        ],
    }


def _text(raw: RawLog) -> dict[str, Any]:
    """What is known of the items' texts; nothing without them."""
    if raw.text is None:
        return {}
    width, kept = raw.text.axes.shape[1], round(raw.text.kept, 4)
    return {"text": {"column": raw.text.column, "width": width, "variance_kept": kept}}


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


def check_usable(
    ledger: RequestLedger, answers: Events, raw: RawLog, part: NDArray[np.int8]
) -> None:
    """Refuse an import from which nothing can be learnt.

    Args:
        ledger: numbers of all requests.
        answers: the rows that hold the feedback.
        raw: the log.
        part: part of each request that is kept.

    Raises:
        DataError: no training request, or no positive among the training requests.
    """
    train = part == TRAIN
    if not train.any():
        raise DataError(
            f"{raw.dataset}: none of {counted(len(part), 'request')} is left to train on (validation "
            f"{int((part == VALIDATION).sum()):,}, test {int((part == TEST).sum()):,}, left out "
            f"{int((part == DROPPED).sum()):,}, whose answers reach into the next part or whose test "
            f"list is short); remedy: more requests, fewer answers per request (option: horizon), or "
            f"other shares (options: fractions, split)"
        )
    if not ledger.positives[ledger.kept][train].any():
        values = answers.values[raw.target]
        raise DataError(
            f"{raw.dataset}: no training request has a positive of '{raw.target}' (values from "
            f"{float(values.min()):g} to {float(values.max()):g}); remedy: another feedback type "
            f"(option: target), or mend that column"
        )


def _recall(
    ledger: RequestLedger, part: NDArray[np.int8], shares: Mapping[str, float], count: int
) -> dict[str, Any]:
    """Recall of each channel: mean over requests of (positives among the first N) / positives.

    Args:
        ledger: numbers of all requests.
        part: part of each request that is kept.
        shares: channel → its share of the candidates at the end of the log.
        count: N.

    Returns:
        ``at`` (N), ``shares``, ``all`` (all requests with a positive), ``validation`` and ``test``
        (those from the first request of that part on, up to the next part); channel → recall each.
        ``gain``: the blend against the channel that is best on validation, on both; see `BlendGain`.
    """
    out: dict[str, Any] = {
        "at": count,
        "shares": {name: round(s, 4) for name, s in shares.items()},
    }
    hits = {n.removeprefix("hits "): v for n, v in ledger.retrieval.items() if n != "positives"}
    best, gains = None, {}
    for name, rows in _periods(ledger, part).items():
        positives = ledger.retrieval["positives"][rows]
        by_channel = {n: found[rows] / positives for n, found in hits.items()}
        out[name] = {n: round(float(each.mean()), 4) for n, each in by_channel.items()}
        if name == "validation":
            best = best_channel(by_channel)
        if name == "all" or best is None:  # nothing is chosen on the test part
            continue
        gain = blend_gain(by_channel, best, ledger.points.user[rows])
        gains[name] = {k: round(v, 5) if k != "channel" else v for k, v in asdict(gain).items()}
    return {**out, "gain": gains}


def _periods(ledger: RequestLedger, part: NDArray[np.int8]) -> dict[str, NDArray[np.int64]]:
    """Rows with a positive: all, and those of each held-out part's time, dropped ones among them."""
    times, some = ledger.points.time, ledger.retrieval["positives"] > 0
    kept = np.flatnonzero(ledger.kept)
    periods, end = {"all": some}, np.iinfo(np.int64).max
    for name, which in (("test", TEST), ("validation", VALIDATION)):
        own = times[kept[part == which]]
        if len(own):
            periods[name] = some & (times >= own.min()) & (times < end)
            end = own.min()
    order = ("all", "validation", "test")
    return {n: np.flatnonzero(periods[n]) for n in order if n in periods and periods[n].any()}
