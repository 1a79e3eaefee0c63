"""Cells as tasks of an engine: the same claims and the same ledger as local workers use.

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
    """What every cell needs.

    Attributes:
        suite: its plan has the cells.
        folder: ledger, values, shared parts, claims.
        accelerator: auto, cpu or gpu.
    """

    suite: Suite
    folder: Path
    accelerator: str


def claim_path(folder: Path, key: str) -> Path:
    """The lock of a cell."""
    return folder / "claims" / f"{key}.lock"


def run_claimed(job: CellJob, key: str) -> str:
    """Run a cell if nobody else has it.

    Returns:
        "ok" or "failed" (it ran now), "known" (it was finished before) or "busy".
    """
    from goalrank.studies.arena.run_cell import run_cell

    cell = next(cell for cell in plan_cells(job.suite) if cell.key == key)
    claim = Claim(claim_path(job.folder, key))
    if not claim.take():
        return "busy"
    try:
        if Ledger(job.folder).has(cell):  # another process finished it since it was planned
            return "known"
        print(f"--- {cell.name}", file=sys.stderr, flush=True)
        return run_cell(job.suite, cell, job.folder, job.accelerator)
    finally:
        claim.drop()


def record_lost_cell(folder: Path, suite: str, cell: Cell, reason: str, seconds: float) -> str:
    """Write down a cell that took its process with it; "failed", or "busy" if another has it."""
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
    engine: Executor, job: CellJob, cells: list[Cell], note: Callable[[str], None]
) -> None:
    """Run cells by an engine; those that another process has are asked for again.

    Args:
        note: called with each cell's status, never "busy".
    """
    by_key = {cell.key: cell for cell in cells}
    start = time.perf_counter()

    def lost(key: str, reason: str) -> str:
        seconds = time.perf_counter() - start
        return record_lost_cell(job.folder, job.suite.name, by_key[key], reason, seconds)

    todo = list(by_key)
    while todo:
        busy = []
        for key, status in zip(todo, engine.map(run_claimed, job, todo, lost=lost)):
            if status == "busy":
                busy.append(key)
            else:
                note(status)
        todo = busy
        if todo:
            time.sleep(_POLL)
