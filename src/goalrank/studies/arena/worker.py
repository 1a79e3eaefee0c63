"""Worker process that runs cells: it reads keys as lines of JSON and writes a status per key.

`goalrank benchmark run` starts it as `python -m goalrank.studies.arena.worker FOLDER SUITE.json
ACCELERATOR`. One worker runs many cells, since loading the libraries takes seconds; if a cell kills
it, only that cell is lost.
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
    """Run cells until the input ends.

    Args:
        folder: of the suite.
        settings: the suite's file.
        accelerator: "auto", "cpu" or "gpu".
        answers: where the status of each cell is written.
    """
    from goalrank.studies.arena.cell_jobs import CellJob, run_claimed
    from goalrank.studies.arena.runner import read_suite

    job = CellJob(read_suite(settings), folder, accelerator)
    for line in sys.stdin:
        key = json.loads(line)["key"]
        status = run_claimed(job, key)
        print(json.dumps({"key": key, "status": status}), file=answers, flush=True)


def _exit_with_parent(parent: int) -> None:
    """End this process when the process that started it has ended in any way."""
    while os.getppid() == parent:
        time.sleep(0.3)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # everything that is printed goes to the log
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], out)
