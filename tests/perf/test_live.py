"""The benchmark of live state runs, and the table in the docs is that of the record."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def live(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "perf"))
    import live

    return live


def test_the_table_is_that_of_the_record(live):
    content = json.loads((ROOT / "results" / "live.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    shown = page.partition(live.BEGIN)[2].partition(live.END)[0]
    assert shown.strip() == live.table(content)
    assert "events in batches of 100" in shown


@pytest.mark.slow
def test_it_writes_its_figures(tmp_path):
    for part in ("server", "restart", "memory"):
        file = tmp_path / f"{part}.json"
        command = [sys.executable, "perf/live.py", "--scale", "0.02", "--only", part]
        done = subprocess.run(
            [*command, "--json", str(file)], cwd=ROOT, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(file.read_text())["parts"][part]
        assert found.get("failed", 0) == 0
        numbers = [value for value in found.values() if isinstance(value, int | float)]
        assert all(value >= 0 for value in numbers)
