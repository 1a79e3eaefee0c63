"""The CSV log of a stage, also over several resumptions."""

from __future__ import annotations

import csv
from pathlib import Path

from goalrank.storage import move_into_place


def set_log_aside(folder: Path) -> None:
    """Rename the log of an interrupted run, which the logger would delete."""
    log = folder / "log" / "metrics.csv"
    if log.exists():
        count = len(list(log.parent.glob("metrics-*.csv")))
        move_into_place(log, log.with_name(f"metrics-{count:04d}.csv"))


def read_telemetry(folder: Path) -> list[dict[str, float]]:
    """Read the rows of a stage's CSV log; cells without a measurement are left out.

    Each resumption has its own file; its first row is the step where it resumed.
    """
    rows: list[dict[str, float]] = []
    for path in [*sorted(folder.glob("log/metrics-*.csv")), folder / "log" / "metrics.csv"]:
        part = _read_log(path) if path.exists() else []
        if part:
            rows = [row for row in rows if row["step"] < part[0]["step"]] + part
    return rows


def _read_log(path: Path) -> list[dict[str, float]]:
    with path.open() as file:
        return [
            {k: float(v) for k, v in row.items() if v not in ("", "nan", None)}
            for row in csv.DictReader(file)
        ]
