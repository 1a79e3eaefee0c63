"""The smoke suite as a user runs it: every row, on the shipped data."""

from __future__ import annotations

import time

import pytest
from typer.testing import CliRunner

from goalrank.cli import app
from goalrank.studies.arena import Ledger
from goalrank.studies.common import standard_rows
from tests.studies.arena.test_suite import SUITES


@pytest.mark.slow
def test_every_row_of_the_smoke_suite(tmp_path):
    suite = next(path for path in SUITES if path.stem == "smoke")
    start = time.monotonic()
    run = CliRunner().invoke(app, ["benchmark", "run", str(suite), "--out", str(tmp_path)])
    assert run.exit_code == 0, run.output
    print(f"smoke took {time.monotonic() - start:.0f} s")
    table = Ledger(tmp_path).read()
    assert set(table["status"]) == {"ok"}
    labels = set(table["ranker"])
    assert set(standard_rows()) - {"baselines"} <= labels
    shown = CliRunner().invoke(app, ["benchmark", "table", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert all(
        f"| {label} |" in shown.stdout.replace("**", "") for label in labels - _baselines(labels)
    )


def _baselines(labels: set[str]) -> set[str]:
    return {label for label in labels if label.startswith("baseline: ")}
