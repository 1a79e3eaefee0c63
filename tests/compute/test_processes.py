"""Processes that run jobs side by side end with the one that asked for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

_SCRIPT = """
import os
import signal
import time

from goalrank.compute import process_map


def work(i):
    os.write(1, f"{os.getpid()}\\n".encode())
    if i < 0:
        raise ValueError("job")
    time.sleep(600)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background job
    with process_map(2) as parallel_map:
        list(parallel_map(work, JOBS))
"""


@pytest.mark.parametrize(
    "ends", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name
)
def test_no_process_outlives_the_one_that_asked(tmp_path: Path, ends: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT.replace("JOBS", "[0, 1]"))
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as asked:
        assert asked.stdout is not None
        workers = [int(asked.stdout.readline()) for _ in range(2)]
        try:
            asked.send_signal(ends)
            asked.communicate(timeout=60)  # to the end of what the workers hold open too
        finally:
            for worker in workers:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
            asked.kill()
    assert asked.returncode != 0


def test_a_job_that_fails_stops_the_others(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT.replace("JOBS", "[-1, 0, 1, 2]"))
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert "ValueError: job" in ended.stderr
