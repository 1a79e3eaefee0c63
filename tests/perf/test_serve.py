"""The server's benchmark runs, and writes every figure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_it_writes_its_figures(tmp_path):
    options = "--quick --backend torch --single 40 --batches 2 --rounds 2 --requests 80 --rate 20"
    command = [sys.executable, "perf/serve.py", *options.split()]
    command += ["--json", str(tmp_path / "s.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["failed"] == 0
    assert 0.9e6 < found["parameters"] < 1.2e6
    for paced in found["single_ms"].values():
        assert len(paced["p50"]) == len(paced["p99"]) == 2
        assert all(0 < low <= high for low, high in zip(paced["p50"], paced["p99"]))
    assert len(found["memory_mb"]) == 41
    assert "rank:batch" in done.stdout
