"""What an import needs is compared with what it may use before it begins."""

from __future__ import annotations

import subprocess
import sys

import pytest

from goalrank.errors import ConfigError
from goalrank.logs import import_log
from goalrank.logs.spill.memory import Needs, check_memory, memory_limit, rows_at_once
from tests.logs.logs_data import movielens_folder

LIMITED = """
import resource, sys
import implicit.cpu.als, polars, scipy.linalg  # their own memory is not what is tested
import rich.cells, rich.progress, rich.table
import goalrank.cli.application
from goalrank.logs import CHANNELS, ImportOptions, import_dataset, write_import
from goalrank.cli import main
used = [int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmData")][0]
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[2]), used + int(sys.argv[2])))
sys.argv = ["goalrank", "data", "import", "movielens", sys.argv[1], "--out", sys.argv[3],
            "--set", "first_fit=100", "--set", "factors=4", "--set", "threads=1"]
main()
"""


def test_too_low_a_limit_is_refused_with_what_is_needed(tmp_path):
    log = movielens_folder(tmp_path / "log")
    with pytest.raises(ConfigError, match=r"needs about 0\.\d+ GB.*may use 0\.01 GB.*memory_gb"):
        import_log("movielens", log, {"first_fit": 100, "memory_gb": 0.01})


def test_a_limit_does_not_change_the_result(tmp_path):
    log = movielens_folder(tmp_path / "log")
    options = {"first_fit": 100, "factors": 4, "candidates": 20, "stride": 5}
    free, bound = (import_log("movielens", log, {**options, "memory_gb": m}) for m in (None, 0.9))
    assert free.train.frame.equals(bound.train.frame)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is the system's")
def test_a_process_with_too_little_memory_says_so_before_it_begins(tmp_path):
    log = movielens_folder(tmp_path / "log")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(log), "20000000", str(tmp_path / "out")],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert "needs about" in done.stderr
    assert "memory_gb" in done.stderr
    assert done.returncode not in (0, -6, 134)
    assert not (tmp_path / "out" / "import.json").exists()


def test_rows_at_once_follow_the_limit():
    assert rows_at_once(1e8) == 1 << 16
    assert 1 << 16 < rows_at_once(1e9 / 3) < rows_at_once(5e8) < rows_at_once(1e12) == 1 << 21


def test_without_a_limit_a_share_of_what_is_there_may_be_used():
    assert 0 < memory_limit(None) < 1e15
    assert memory_limit(2.5) == 2.5e9


def test_what_fits_passes():
    needs = Needs("work", {"part": 1e9})
    check_memory(needs, needs.total)
    with pytest.raises(ConfigError, match=r"part 1\.00"):
        check_memory(needs, needs.total - 1)
