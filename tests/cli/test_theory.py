from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Goalrank


@pytest.mark.parametrize(("given", "starts"), [([], 2), (["--starts", "7"], 7)])
def test_starts_reach_the_laboratory(
    goalrank: Goalrank,
    given: list[str],
    starts: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, Any] = {}

    def run(out: Path, **options: Any) -> dict[str, Any]:
        asked.update(options)
        return {"counts": {"fits": 39}}

    monkeypatch.setattr("goalrank.studies.theory.run", run)
    monkeypatch.setattr("goalrank.compute.usable_cores", lambda: 100)
    ended = goalrank("theory", "run", "--out", tmp_path, *given)
    assert ended.exit_code == 0, ended.output
    assert asked["config"].fit.starts == starts
    assert asked["jobs"] == starts + 2


def test_starts_out_of_range_are_refused(goalrank: Goalrank, tmp_path: Path) -> None:
    ended = goalrank("theory", "run", "--out", tmp_path, "--starts", 65)
    assert ended.exit_code == 2
    assert "64" in ended.output
