"""Import of raw logs: from any source to requests tables."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from goalrank.compute import Executor, LocalExecutor
from goalrank.errors import ConfigError, DataError
from goalrank.logs.download.data_folders import data_root
from goalrank.logs.events.consumption import ConsumptionLog, as_imported, to_arrays
from goalrank.logs.events.split import TEST, TRAIN, VALIDATION
from goalrank.logs.making import MadeRequests, make_requests
from goalrank.logs.memory_needs import needs_of_reading, needs_of_requests
from goalrank.logs.options import ImportOptions, Protocol
from goalrank.logs.output import REPORT, finish_writing, ready_folder, write_made
from goalrank.logs.readers.raw_log import RawLog
from goalrank.logs.readers.sources import SOURCES
from goalrank.logs.result import ImportResult
from goalrank.logs.retrieval.refit_scoring import one_blas_thread
from goalrank.logs.saved_log import FOLDER, SavedLog, joined_logs, load_log, save_log
from goalrank.logs.spill.folder import Spill, spilling
from goalrank.logs.spill.memory import check_memory, memory_limit, rows_at_once
from goalrank.logs.text.item_texts import with_text_vectors
from goalrank.logs.text.text_vectors import Progress
from goalrank.requests import Requests
from goalrank.storage import local_draft, local_path

__all__ = ["append_rows", "import_dataset", "import_log", "read_log"]


def import_log(
    source: str,
    path: str | Path | None = None,
    options: ImportOptions | Mapping[str, Any] | None = None,
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
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
        progress: told of the items' texts that are embedded (option ``text``).

    Raises:
        ConfigError: unknown source or option, a protocol that the source does not support, or more
            memory needed than may be used.
        SchemaError: a column of the log is missing or of the wrong type.
        DataError: the log breaks another rule.
        MissingExtraError: the factorisation channel needs ``implicit``, or the option ``text`` a
            sentence model.
        ExecutorError: a remote executor failed on every try.
    """
    with tempfile.TemporaryDirectory(prefix="goalrank-import-") as folder:
        options = _checked(options)
        spill = Spill(Path(folder))
        made = _make(lambda: _read(source, path, options), options, executor, spill, progress)
        store = made.store
        train, validation, test = (
            Requests(
                store.frame(made.part == p), items=store.items, users=store.users, info=store.info
            )
            for p in (TRAIN, VALIDATION, TEST)
        )
    return ImportResult(train, validation, test, made.report, made.text)


def read_log(
    source: str,
    path: str | Path | None = None,
    options: ImportOptions | Mapping[str, Any] | None = None,
) -> RawLog:
    """Read a raw log as an import does, without making requests of it.

    Args:
        source: as for `import_log`.
        path: as for `import_log`.
        options: as for `import_log`.

    Raises:
        ConfigError, SchemaError, DataError: as `import_log`.
    """
    return _read(source, path, _checked(options))


def import_dataset(
    source: str,
    path: str | Path | None = None,
    options: ImportOptions | Mapping[str, Any] | None = None,
    *,
    out: str | Path,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Read a raw log and write requests tables of it, in bounded memory.

    The tables equal those of `import_log`. What does not fit memory lies in a hidden folder in
    ``out`` meanwhile.

    Args:
        source: as for `import_log`.
        path: as for `import_log`.
        options: as for `import_log`.
        out: folder to write to, which is made if it is missing; or an fsspec address (s3://…).
        executor: as for `import_log`.
        progress: as for `import_log`.

    Returns:
        The report, which import.json holds too.

    Raises:
        ConfigError, SchemaError, DataError, MissingExtraError, ExecutorError: as `import_log`.
        DataError: the folder cannot be written, or another import writes to it.
    """
    options = _checked(options)

    def read() -> RawLog:
        raw = _read(source, path, options)
        save_log(SavedLog(source, options, raw), ready_folder(spill.folder) / FOLDER)
        return raw

    with (
        local_draft(out, last=REPORT) as folder,
        spilling(folder, partial(_recover, folder)) as spill,
    ):
        made = _make(read, options, executor, spill, progress)
        write_made(made, folder, spill)
    return made.report


def append_rows(
    dataset: str | Path,
    *paths: str | Path,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Add later rows to an imported data set; the old log's files are not read again.

    The data set then equals an import of the old and the new rows together, with the source and the
    options of its import. Until the new tables are whole it is as it was.

    Args:
        dataset: folder of `import_dataset`.
        paths: files of new rows, in order of time.
        executor: as for `import_log`.
        progress: as for `import_log`.

    Returns:
        The report, which import.json holds too.

    Raises:
        DataError: no such data set, or rows that are not later than its last moment.
        SchemaError: the rows have other columns or kinds of ids.
        ConfigError: nothing can be appended to this data set.
    """
    folder = local_path(dataset, "dataset")
    if not folder.is_dir():
        raise DataError(
            f"'{folder}' is no folder; remedy: give the folder that goalrank data import wrote"
        )
    with spilling(folder, partial(_recover, folder)) as spill:
        saved = load_log(folder)

        def read() -> RawLog:
            raw = saved.raw
            for path in paths:
                raw = joined_logs(raw, _read(saved.source, path, saved.options), str(path))
            save_log(replace(saved, raw=raw), ready_folder(spill.folder) / FOLDER)
            return raw

        made = _make(read, saved.options, executor, spill, progress)
        write_made(made, folder, spill)
    return made.report


def _recover(folder: Path, left: Path) -> None:
    """Finish what a killed import had ready."""
    finish_writing(folder, ready_folder(left))


def _checked(options: ImportOptions | Mapping[str, Any] | None) -> ImportOptions:
    if isinstance(options, ImportOptions):
        return options
    return ImportOptions.from_mapping(options or {})


def _make(
    read: Callable[[], RawLog],
    options: ImportOptions,
    executor: Executor | None,
    spill: Spill,
    progress: Progress | None,
) -> MadeRequests:
    begin = time.perf_counter()
    log, protocol, seconds = _in_order(read, options, spill, progress)
    with one_blas_thread(), LocalExecutor(options.threads) as local:
        made = make_requests(log, protocol, options, executor or local, spill)
    made.report["seconds"] = {
        "read": round(seconds, 3),
        "total": round(time.perf_counter() - begin, 3),
    }
    return made


def _read(source: str, path: str | Path | None, options: ImportOptions) -> RawLog:
    """A log as its reader gives it."""
    place = None if path is None else _resolve_path(path)
    reader = SOURCES[source]
    check_memory(needs_of_reading(place, source), memory_limit(options.memory_gb))
    raw = reader(place, options)
    if not isinstance(raw, RawLog):
        raise DataError(
            f"source '{source}' gave a {type(raw).__name__}, but a reader gives a "
            f"goalrank.logs.RawLog; remedy: mend the reader"
        )
    return raw


def _in_order(
    read: Callable[[], RawLog], options: ImportOptions, spill: Spill, progress: Progress | None
) -> tuple[ConsumptionLog, Protocol, float]:
    """A log as arrays on disk, its protocol, and the seconds of reading."""
    begin = time.perf_counter()
    limit = memory_limit(options.memory_gb)
    spill.chunk = rows_at_once(limit)
    raw = read()
    seconds = time.perf_counter() - begin
    protocol: Protocol = options.protocol or (
        "exposed" if raw.shape == "exposures" else "retrieved"
    )
    if protocol == "exposed" and raw.shape == "interactions":
        raise ConfigError(
            f"protocol 'exposed' needs a log of exposures, and {raw.dataset} holds interactions "
            "only; use protocol 'retrieved'"
        )
    raw = with_text_vectors(as_imported(raw, protocol), options, progress)
    log = to_arrays(raw, spill, options.seed)
    check_memory(needs_of_requests(log, protocol, options), limit)
    return log, protocol, seconds


def _resolve_path(path: str | Path) -> Any:
    """The path or address itself, or the data set of that name in ``GOALRANK_DATA``."""
    if "://" in str(path):
        return str(path)
    path = Path(path)
    return path if path.exists() else data_root(str(path)) or path
