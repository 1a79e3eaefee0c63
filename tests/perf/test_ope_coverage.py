"""The table of coverage: what docs/experiments.md says is what was measured, and it is measured right."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def perf(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "perf")
    return importlib.import_module("ope_coverage")


def test_the_page_holds_the_measured_table(perf):
    page = (ROOT / "docs" / "experiments.md").read_text()
    shown = page.split("<!-- coverage -->")[1].split("<!-- /coverage -->")[0].strip()
    cells = json.loads((ROOT / "results" / "ope-coverage.json").read_text())["cells"]
    assert len(cells) == len(perf.RATES) * len(perf.SIZES)
    assert shown == perf.table(cells)


def test_the_lower_bound_held_everywhere():
    cells = json.loads((ROOT / "results" / "ope-coverage.json").read_text())["cells"]
    assert all(each["lower bound"] >= 0.95 for each in cells)


def test_the_truth_is_the_mean_of_what_is_drawn(perf):
    rng = np.random.default_rng(0)
    values = []
    for _ in range(300):
        logged, chance = perf.draw_log(rng, 0.05, 300)
        values.append(float((logged.weight * chance).mean()))
    error = np.std(values) / len(values) ** 0.5
    assert abs(np.mean(values) - perf.true_value(0.05, 300)) < 4 * error


def test_a_cell_is_the_same_again(perf):
    assert perf.cell(0.05, 300, 3, 1) == pytest.approx(perf.cell(0.05, 300, 3, 1))
