"""Cells as tasks of an executor, with the same claims and the same ledger as local workers.

All machines of a cluster must see the suite's folder under one path (a shared disk).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from goalrank.compute import Executor
from goalrank.storage import Claim
from goalrank.studies.arena.ledger import Ledger, failure
from goalrank.studies.common import Cell, Suite, plan_cells

_POLL = 0.5


@dataclass(frozen=True)
class CellJob:
    """What every cell of a run needs.

    Attributes:
        suite: the suite.
        folder: of ledger, values, shared models and claims.
        accelerator: "auto", "cpu" or "gpu".
    """

    suite: Suite
    folder: Path
    accelerator: str


def claim_path(folder: Path, key: str) -> Path:
    """Path of the lock of a cell.

    Args:
        folder: of the suite.
        key: of the cell.
    """
    return folder / "claims" / f"{key}.lock"


def run_claimed(job: CellJob, key: str) -> str:
    """Run a cell if no other process runs it.

    Args:
        job: the run.
        key: of the cell.

    Returns:
        "ok" or "failed" (it was run now), "known" (it was finished before) or "busy" (another
        process runs it).
    """
    from goalrank.studies.arena.run_cell import run_cell

    cell = next(cell for cell in plan_cells(job.suite) if cell.key == key)
    claim = Claim(claim_path(job.folder, key))
    if not claim.take():
        return "busy"
    try:
        if Ledger(job.folder).has(cell):  # another process has finished it in the meantime
            return "known"
        print(f"--- {cell.name}", file=sys.stderr, flush=True)
        return run_cell(job.suite, cell, job.folder, job.accelerator)
    finally:
        claim.drop()


def record_lost_cell(folder: Path, suite: str, cell: Cell, reason: str, seconds: float) -> str:
    """Record a cell that ended its process as failed.

    Args:
        folder: of the suite.
        suite: name of the suite.
        cell: the cell.
        reason: why the process ended.
        seconds: since the cell was started.

    Returns:
        "failed", or "busy" if another process runs the cell.
    """
    claim = Claim(claim_path(folder, cell.key))
    if not claim.take():
        return "busy"
    try:
        ledger = Ledger(folder)
        if not ledger.has(cell):
            ledger.write(cell, [failure(suite, cell, reason, seconds)])
        return "failed"
    finally:
        claim.drop()


def run_on_executor(
    executor: Executor, job: CellJob, cells: list[Cell], on_done: Callable[[str], None]
) -> None:
    """Run cells on an executor; those that another process runs are tried again.

    Args:
        executor: runs the cells.
        job: the run.
        cells: the cells.
        on_done: called with the status of each cell, never "busy".
    """
    by_key = {cell.key: cell for cell in cells}
    start = time.perf_counter()

    def lost(key: str, reason: str) -> str:
        seconds = time.perf_counter() - start
        return record_lost_cell(job.folder, job.suite.name, by_key[key], reason, seconds)

    todo = list(by_key)
    while todo:
        busy = []
        for key, status in zip(todo, executor.map(run_claimed, job, todo, lost=lost)):
            if status == "busy":
                busy.append(key)
            else:
                on_done(status)
        todo = busy
        if todo:
            time.sleep(_POLL)
