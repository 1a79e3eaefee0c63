"""A process that runs cells: keys come in as lines of JSON, answers go out the same way.

Run by `goalrank benchmark run` as `python -m goalrank.benchmark.worker FOLDER SUITE.json ACCELERATOR`. One
worker runs many cells, since loading the libraries takes seconds; if a cell kills it, only that cell is lost.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import TextIO


def main(folder: Path, settings: Path, accelerator: str, answers: TextIO) -> None:
    """Answer until the input ends."""
    from goalrank.benchmark.cells import plan
    from goalrank.benchmark.ledger import Ledger
    from goalrank.benchmark.locks import Claim
    from goalrank.benchmark.run_cell import run_cell
    from goalrank.benchmark.runner import claim_path, read_suite

    suite = read_suite(settings)
    cells = {cell.key: cell for cell in plan(suite)}
    ledger = Ledger(folder)
    for line in sys.stdin:
        cell = cells[json.loads(line)["key"]]
        claim = Claim(claim_path(folder, cell.key))
        if not claim.take():
            status = "busy"
        elif ledger.has(cell):  # another process finished it since it was planned
            status = "known"
        else:
            print(f"--- {cell.name}", file=sys.stderr, flush=True)
            status = run_cell(suite, cell, folder, accelerator)
        claim.drop()
        print(json.dumps({"key": cell.key, "status": status}), file=answers, flush=True)


def _leave_with(parent: int) -> None:
    """End when the process that started us is gone, however it ended."""
    while os.getppid() == parent:
        time.sleep(0.3)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints goes to the log
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], out)
