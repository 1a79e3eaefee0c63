"""Run of a suite: missing cells are run in parallel, each claimed by one process."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from goalrank.compute import Executor, usable_cores
from goalrank.errors import ConfigError, DataError
from goalrank.settings import old_names_accepted
from goalrank.storage import write_text
from goalrank.studies.arena.cell_jobs import CellJob, record_lost_cell, run_on_executor
from goalrank.studies.arena.ledger import LEDGER_VERSION, Ledger
from goalrank.studies.common import (
    Cell,
    Suite,
    build_suite,
    dataset_path,
    json_hash,
    parse_shard,
    plan_cells,
    rename_rows,
    shard_cells,
)
from goalrank.training import check_devices

SUITE_FILE = "suite.json"
Progress = Callable[[int, int], None]
_MOST_JOBS = 8
_POLL = 0.5


@dataclass
class RunResult:
    """Number of cells of a run.

    Attributes:
        ran: cells run now.
        failed: those of them that failed.
        before: cells that were finished before.
        elsewhere: cells that another process finished meanwhile.
    """

    ran: int = 0
    failed: int = 0
    before: int = 0
    elsewhere: int = 0

    def count(self, status: str) -> None:
        """Count a cell that is done.

        Args:
            status: "ok", "failed" or "known" (finished by another process).
        """
        if status == "known":
            self.elsewhere += 1
        else:
            self.ran += 1
            self.failed += status == "failed"


def run_suite(
    suite: Suite,
    folder: str | Path,
    *,
    shard_of: str = "1/1",
    jobs: int = 0,
    retry: bool = False,
    accelerator: str = "auto",
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Run the missing cells of a suite.

    It can be killed at any time, and started several times on one folder, also in parallel: a
    finished cell is never run again, and a running one is left to its process.

    Args:
        suite: the suite.
        folder: of ledger, values, shared models and logs of the workers.
        shard_of: "i/n" runs only this part of the cells.
        jobs: number of cells in parallel; 0 runs one per core, at most 8, and one on a GPU.
        retry: run failed cells again.
        accelerator: "auto", "cpu" or "gpu".
        executor: runs the cells instead of processes of this machine, with its own number of
            workers. A cell whose worker dies is tried again, and recorded as failed if its workers
            keep dying.
        progress: called with (cells done, cells to do).

    Returns:
        Number of cells that were run, failed, or were finished before.

    Raises:
        ConfigError: the folder holds another suite, the shard does not exist, data are missing, or
            this machine has no such accelerator.
        DataError: the ledger in the folder was written by a newer version.
    """
    place = Path(folder)
    i, n = parse_shard(shard_of)
    ledger = Ledger(place)
    ledger.check()
    kept = store_suite(suite, place)
    cells = shard_cells(plan_cells(suite), i, n, suite.tuning.trials > 0)
    for cell in cells if retry else ():
        if ledger.status(cell) == "failed":
            ledger.forget(cell)
    missing = [cell for cell in cells if not ledger.has(cell)]
    for dataset in {cell.dataset.name: cell.dataset for cell in missing}.values():
        dataset_path(dataset)  # an error now, not one per cell
    result = RunResult(before=len(cells) - len(missing))
    if missing and executor is not None:
        job = CellJob(suite, place.resolve(), accelerator)
        _run_on_executor(executor, job, missing, result, progress)
    elif missing:
        check_devices(accelerator, "auto")  # as above
        workers = min(jobs or _default_jobs(accelerator), len(missing))
        pool = _WorkerPool(suite.name, place, (str(kept), accelerator), missing, result, workers)
        pool.run(progress)
    return result


def _default_jobs(accelerator: str) -> int:
    if accelerator != "cpu":
        import torch

        if torch.cuda.is_available():
            return 1
    return min(usable_cores(), _MOST_JOBS)


def _run_on_executor(
    executor: Executor,
    job: CellJob,
    cells: list[Cell],
    result: RunResult,
    progress: Progress | None,
) -> None:
    def count(status: str) -> None:
        result.count(status)
        if progress is not None:
            progress(result.ran + result.elsewhere, len(cells))

    run_on_executor(executor, job, cells, count)


def store_suite(suite: Suite, folder: Path) -> Path:
    """Write a suite into its folder.

    Tables read it from suite.json. The workers of this run read it from another file, which a
    larger suite of another process does not replace.

    Args:
        suite: the suite.
        folder: its folder.

    Returns:
        The file for the workers.

    Raises:
        ConfigError: the folder holds another suite.
    """
    path = folder / SUITE_FILE
    if path.exists() and (old := stored_suite(folder).name) != suite.name:
        raise ConfigError(
            f"'{folder}' holds the suite '{old}', not '{suite.name}'; remedy: another --out"
        )
    content = {
        "version": LEDGER_VERSION,
        "suite": suite.model_dump(mode="json"),
        "keys": [cell.key for cell in plan_cells(suite)],
    }
    text = json.dumps(content, indent=1)
    own = folder / "shared" / "suites" / f"{json_hash(content)}.json"
    for file in (path, own):
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            write_text(file, text)
    return own


def stored_suite(folder: str | Path) -> Suite:
    """Read the suite of a folder.

    Args:
        folder: of `run_suite`.

    Raises:
        DataError: there is none, it is damaged, or it was written by a newer version.
    """
    return read_suite(_suite_file(folder))


def stored_plan(folder: str | Path) -> list[Cell]:
    """List the cells of a folder's suite, with the keys that its run gave them.

    A later goalrank may have further settings and so give the same cells other keys; with the
    stored keys the results can still be read.

    Args:
        folder: of `run_suite`.

    Raises:
        DataError: see `stored_suite`.
    """
    path = _suite_file(folder)
    cells, keys = plan_cells(read_suite(path)), _content(path).get("keys")
    if not isinstance(keys, list) or len(keys) != len(cells):
        return cells
    return [replace(cell, key=str(key)) for cell, key in zip(cells, keys, strict=True)]


def read_suite(path: Path) -> Suite:
    """Read a suite that `store_suite` wrote.

    Args:
        path: of the file.

    Raises:
        DataError: see `stored_suite`.
    """
    with old_names_accepted():
        return build_suite(_content(path)["suite"])


def _suite_file(folder: str | Path) -> Path:
    path = Path(folder) / SUITE_FILE
    if not path.exists():
        raise DataError(
            f"'{folder}' holds no suite; remedy: goalrank benchmark run SUITE --out {folder}"
        )
    return path


def _content(path: Path) -> dict[str, Any]:
    """Read a file that `store_suite` wrote."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = int(content["version"])
        suite = content["suite"]
        content["suite"] = {**suite, "rankers": rename_rows(suite["rankers"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"'{path}' is damaged ({error}); remedy: remove it and run the suite again"
        ) from error
    if version > LEDGER_VERSION:
        raise DataError(
            f"'{path}' has format {version}, written by a newer goalrank; this one reads formats "
            f"up to {LEDGER_VERSION}; remedy: pip install --upgrade goalrank"
        )
    return content


class _WorkerPool:
    """Worker processes, each with a thread that gives it cells and counts their results.

    Args:
        suite: name of the suite.
        folder: of the suite.
        settings: arguments of a worker: the suite's file and the accelerator.
        cells: the cells to run.
        result: counts the cells.
        workers: number of processes.
    """

    def __init__(
        self,
        suite: str,
        folder: Path,
        settings: tuple[str, str],
        cells: list[Cell],
        result: RunResult,
        workers: int,
    ) -> None:
        self.suite, self.folder, self.settings = suite, folder, settings
        self.todo: deque[Cell] = deque(cells)
        self.total = len(cells)
        self.result = result
        self.workers = workers
        self.lock = threading.Lock()
        self.events: queue.Queue[BaseException | None] = queue.Queue()
        self.processes: list[subprocess.Popen[str]] = []
        self.stopping = False

    def run(self, progress: Progress | None) -> None:
        """Run all cells; the first error of a thread is raised here."""
        threads = [
            threading.Thread(target=self._serve_and_report, args=(i,), daemon=True)
            for i in range(self.workers)
        ]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                self._report_progress(progress)
                try:
                    fault = self.events.get(timeout=_POLL)
                except queue.Empty:
                    continue
                if fault is not None:
                    raise fault
            while not self.events.empty():
                if (fault := self.events.get()) is not None:
                    raise fault
            self._report_progress(progress)
        finally:
            self.stopping = True
            for process in self.processes:
                process.kill()
                process.wait()
                _close_pipes(process)

    def _report_progress(self, progress: Progress | None) -> None:
        if progress is not None:
            progress(self.result.ran + self.result.elsewhere, self.total)

    def _serve_and_report(self, number: int) -> None:
        try:
            self._serve(number)
        except BaseException as error:
            if not self.stopping:
                self.events.put(error)

    def _serve(self, number: int) -> None:
        """Give cells to one worker until none is left; replace a worker that dies."""
        process: subprocess.Popen[str] | None = None
        while (cell := self._next()) is not None:
            if process is None:
                process = self._start(number)
            began = time.perf_counter()
            status = _run_on_worker(process, cell)
            if self.stopping:
                return
            if status is None:
                reason = self._exit_reason(process, number)
                process = None
                status = record_lost_cell(
                    self.folder, self.suite, cell, reason, time.perf_counter() - began
                )
            self._count(cell, status)
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait()

    def _next(self) -> Cell | None:
        with self.lock:
            return self.todo.popleft() if self.todo else None

    def _count(self, cell: Cell, status: str) -> None:
        with self.lock:
            if status == "busy":
                self.todo.append(cell)
            else:
                self.result.count(status)
        if status == "busy":
            time.sleep(_POLL)  # another process runs it; try again later
        self.events.put(None)

    def _start(self, number: int) -> subprocess.Popen[str]:
        log = self._log(number)
        log.parent.mkdir(parents=True, exist_ok=True)
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(usable_cores() // self.workers, 1))
        command = [sys.executable, "-m", "goalrank.studies.arena.worker"]
        with log.open("ab") as errors:
            process = subprocess.Popen(  # noqa: S603  this Python, no shell
                [*command, str(self.folder), *self.settings],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env={**os.environ, "OMP_NUM_THREADS": threads, "GOALRANK_NO_PROGRESS": "1"},
                start_new_session=True,  # Ctrl-C stops this process, which stops the workers
            )  # fmt: skip
        self.processes.append(process)
        return process

    def _log(self, number: int) -> Path:
        return self.folder / "logs" / f"worker-{os.getpid()}-{number}.log"

    def _exit_reason(self, process: subprocess.Popen[str], number: int) -> str:
        code = process.wait()
        if code == -9:
            return "its process was killed (signal 9), as the system does when memory runs out"
        if code < 0:
            return f"its process was ended by signal {-code}"
        lines = self._log(number).read_text(errors="replace").strip().splitlines()
        return f"its process ended with code {code}: {lines[-1] if lines else 'nothing was said'}"


def _close_pipes(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # what a dead worker did not read is lost
                pipe.close()


def _run_on_worker(process: subprocess.Popen[str], cell: Cell) -> str | None:
    """Let a worker run a cell: its status; None if the worker died."""
    if process.stdin is None or process.stdout is None:
        return None
    try:
        process.stdin.write(json.dumps({"key": cell.key}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {}
    except (OSError, ValueError):
        return None
    status = answer.get("status")
    return None if status is None else str(status)
