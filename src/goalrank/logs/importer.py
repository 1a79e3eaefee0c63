"""Import of raw logs: from any source to requests tables."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from goalrank.compute import Executor, LocalExecutor
from goalrank.errors import ConfigError, DataError
from goalrank.logs.candidates.assembly import assemble
from goalrank.logs.candidates.pending import shuffle_candidates
from goalrank.logs.candidates.pipelines import (
    enough_positives,
    exposed_requests,
    retrieved_requests,
)
from goalrank.logs.candidates.protocols import INJECTED_WARNING, Retrieved
from goalrank.logs.candidates.training_means import with_training_means
from goalrank.logs.download.data_folders import data_root
from goalrank.logs.events.consumption import ConsumptionLog, consumed_only, to_arrays
from goalrank.logs.events.split import DROPPED, TEST, TRAIN, VALIDATION, split_points
from goalrank.logs.options import ImportOptions, Protocol
from goalrank.logs.readers.raw_log import RawLog
from goalrank.logs.readers.sources import SOURCES
from goalrank.logs.report import check_usable, make_report, no_requests_message, recall
from goalrank.logs.retrieval.refit_scoring import one_blas_thread
from goalrank.requests import Requests, TableInfo

__all__ = ["ImportResult", "import_log"]


@dataclass(frozen=True)
class ImportResult:
    """Tables of train, validation and test, and a report of the import.

    Attributes:
        train, validation, test: requests; some may be empty, but not all.
        report: dataset, protocol, target, counts, seconds, recall (channel → share among N),
            candidate_features, options and warnings, as JSON values.
    """

    train: Requests
    validation: Requests
    test: Requests
    report: dict[str, Any]


def import_log(
    source: str,
    path: str | Path | None = None,
    options: ImportOptions | Mapping[str, Any] | None = None,
    *,
    executor: Executor | None = None,
) -> ImportResult:
    """Read a raw log and make requests tables of it.

    Args:
        source: a name of `SOURCES`, or "package.module:function" of a reader.
        path: file or folder, or the name of a folder in the folder that the environment variable
            ``GOALRANK_DATA`` names; ``None`` reads the data shipped with goalrank (``kuairand``,
            ``movielens``).
        options: settings, or a mapping of them.
        executor: executor of retrieval and scoring, which is most of the work; reading, fitting and
            splitting run in this process. The result does not depend on it, bit for bit. ``None``
            uses ``options.threads`` threads of this process.

    Raises:
        ConfigError: unknown source or option, or a protocol that the source does not support.
        SchemaError: a column of the log is missing or of the wrong type.
        DataError: the log breaks another rule.
        MissingExtraError: the factorisation channel needs ``implicit``.
        ExecutorError: a remote executor failed on every try.
    """
    begin = time.perf_counter()
    reader = SOURCES[source]
    if not isinstance(options, ImportOptions):
        options = ImportOptions.from_mapping(options or {})
    raw = reader(None if path is None else _resolve_path(path), options)
    if not isinstance(raw, RawLog):
        raise DataError(
            f"source '{source}' gave a {type(raw).__name__}, but a reader gives a "
            f"goalrank.logs.RawLog; remedy: mend the reader"
        )
    read = time.perf_counter()
    protocol: Protocol = options.protocol or (
        "exposed" if raw.shape == "exposures" else "retrieved"
    )
    if protocol == "exposed" and raw.shape == "interactions":
        raise ConfigError(
            f"protocol 'exposed' needs a log of exposures, and {raw.dataset} holds interactions "
            "only; use protocol 'retrieved'"
        )
    with one_blas_thread(), LocalExecutor(options.threads) as local:
        result = _import(raw, protocol, options, executor or local)
    result.report["seconds"] = {
        "read": round(read - begin, 3),
        "total": round(time.perf_counter() - begin, 3),
    }
    return result


def _min_test_candidates(log: ConsumptionLog, options: ImportOptions) -> int:
    """Minimum of candidates of a test request; see ``ImportOptions.min_test_list``."""
    if options.min_test_list is not None:
        return options.min_test_list
    return 6 if log.raw.shape == "exposures" and log.events.request is None else 2


def _resolve_path(path: str | Path) -> Any:
    """The path or address itself, or the data set of that name in ``GOALRANK_DATA``."""
    if "://" in str(path):
        return str(path)
    path = Path(path)
    return path if path.exists() else data_root(str(path)) or path


def _import(
    raw: RawLog, protocol: Protocol, options: ImportOptions, executor: Executor
) -> ImportResult:
    if protocol == "exposed":
        log = to_arrays(raw, options.seed)
        pending, notes, log = exposed_requests(log, options, executor)
        retrieved: Retrieved | None = None
    else:
        raw = consumed_only(raw, injected=protocol == "injected")
        log = to_arrays(raw, options.seed)
        retrieved, notes = retrieved_requests(log, protocol, options, executor)
        pending = retrieved.pending
    if not options.computed_features:
        own = {name: pending.features[name] for name in raw.features}
        pending = replace(pending, features=own)
    notes["requests_placed"] = len(pending)
    said = raw.notes
    placed = len(pending)
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
    kept, single = enough_positives(pending, log, protocol, options)
    notes["dropped_single_candidate"] = single
    notes["dropped_few_positives"] = placed - single - len(kept)
    said.leave_out("requests", single, placed, "a single candidate: nothing to rank", "min_list")
    said.leave_out(
        "requests", notes["dropped_few_positives"], placed,
        "fewer positives among the candidates than asked for", "min_positives",
    )  # fmt: skip
    if not len(kept):
        raise DataError(no_requests_message(raw, protocol, notes))
    pending = shuffle_candidates(pending.take(kept), log.users, log.items, options.seed)
    part = split_points(pending.points, options.split, options.fractions)
    notes["dropped_reaching_into_next_part"] = int((part < 0).sum())
    said.leave_out(
        "requests", notes["dropped_reaching_into_next_part"], len(part),
        "answers that reach into the next part of the split", "split",
    )  # fmt: skip
    short = (part == TEST) & (
        (pending.candidates >= 0).sum(axis=1) < _min_test_candidates(log, options)
    )
    notes["dropped_short_in_test"] = int(short.sum())
    said.leave_out(
        "requests", notes["dropped_short_in_test"], len(part),
        f"test lists of fewer than {_min_test_candidates(log, options)} candidates", "min_test_list",
    )  # fmt: skip
    part[short] = DROPPED
    check_usable(pending, log, part)
    pending = with_training_means(pending, part == TRAIN, raw.dataset)
    frame = assemble(
        pending, log.history, log.events, raw.kinds,
        users=log.users, items=log.items, depth=options.history, strength=raw.strength,
    )  # fmt: skip
    info = TableInfo(
        dataset=raw.dataset,
        protocol=protocol,
        feedback_kinds=raw.kinds,
        target=raw.target,
        candidate_features=tuple(pending.features),
        warning=INJECTED_WARNING if protocol == "injected" else None,
    )
    train, validation, test = (
        Requests(frame.filter(pl.Series(part == p)), items=raw.items, users=raw.users, info=info)
        for p in (TRAIN, VALIDATION, TEST)
    )
    report = make_report(raw, info, log, pending, part, notes, options)
    if retrieved is not None:
        report["recall"] = recall(retrieved, kept, part, options.candidates)
    return ImportResult(train, validation, test, report)
