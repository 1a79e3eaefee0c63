"""Files of finished cells: what is damaged or there twice is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from goalrank.errors import DataError
from goalrank.studies.scaling import failures, fit_scaling, said_failures, scaling_table
from tests.studies.scaling.test_table import write


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"suite": "pl', "cannot be read"),
        ("[]", r"holds \[\] instead of named facts"),
        ("null", "holds null"),
        ("{}", "suite is None, but must be text"),
        ({"seed": "0"}, "seed is '0', but must be a whole number"),
        ({"data": True}, "data is True"),
        ({"true_reward": float("nan")}, "true_reward is nan, but must be a finite number"),
        ({"best": None}, "best is None"),
        ({"loss": "0.1"}, "loss is '0.1'"),
        ({"correlation_random": float("inf")}, "correlation_random is inf"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str | dict[str, Any], said: str) -> None:
    write(tmp_path, "goalrank", 0, 3.0)
    file = tmp_path / "cells" / "goalrank-100-0.json"
    changed = json.loads(file.read_text())
    file.write_text(content if isinstance(content, str) else json.dumps(changed | content))
    for read in (lambda: scaling_table([tmp_path]), lambda: fit_scaling(tmp_path)):
        with pytest.raises(DataError, match=rf"goalrank-100-0\.json.*{said}.*remedy"):
            read()


def test_a_changed_suite_in_one_folder_is_not_averaged_with_its_earlier_self(
    tmp_path: Path,
) -> None:
    write(tmp_path, "goalrank", 0, 3.0)
    file = tmp_path / "cells" / "goalrank-100-0.json"
    file.rename(file.with_name("goalrank-100-0.other.json"))
    write(tmp_path, "goalrank", 0, 3.5)
    for read in (lambda: scaling_table([tmp_path]), lambda: fit_scaling(tmp_path)):
        with pytest.raises(DataError, match=r"0\.json.*0\.other\.json.*run again; remedy"):
            read()


def test_failures_are_said_with_their_reasons(tmp_path: Path) -> None:
    write(tmp_path, "goalrank", 0, 3.0)
    assert said_failures(failures([tmp_path])) == ""
    for seed in (0, 1):
        write(tmp_path, "mg_e", seed, 0.0, status="failed", reason="k is 0")
    write(tmp_path, "dnn", 0, 0.0, status="failed", reason="diverged")
    assert said_failures(failures([tmp_path])).splitlines() == [
        "2 cells failed: k is 0",
        "1 cell failed: diverged",
        "remedy: goalrank scaling run SUITE --out DIR --retry",
    ]
