"""examples/two_weeks.py on three small days: real servers, and the loop's commands."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from goalrank.cli import app

pytest.importorskip("fastapi")
EXAMPLES = Path(__file__).parents[2] / "examples"


def here(*words: object, codes: tuple[int, ...] = (0,)) -> str:
    """A command within this process, which has loaded the libraries already."""
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code in codes, (words, done.output, done.exception)
    return done.stdout


@pytest.fixture
def shop(monkeypatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    module = importlib.import_module("two_weeks")
    monkeypatch.setattr(module, "goalrank", here)
    return module


def test_three_days_a_poisoned_one_and_a_rollback(shop, tmp_path):
    plan = shop.Plan(seed=0, days=3, requests=160, warm=3, poisoned=2, rolled_back=3)
    done = shop.run(plan, tmp_path)
    nights = [day["night"] for day in done["days"]]
    assert nights[1]["outcome"] == "refused"
    assert "the feedback is doubted" in " ".join(nights[1]["refused"])
    assert done["moves"][:2] == ["promote", "promote"]
    assert "rollback" in done["moves"]
    told = done["days"][2]["rollback"]
    assert min(told.values()) >= 40  # a quarter before the rollback, and one after it
    assert sum(told.values()) == plan.requests
    assert done["degraded"] == {shop.KEPT: 0, shop.RETRAINED: 0}
    first, *_ = (day["reward"] for day in done["days"])
    assert first[shop.KEPT] == first[shop.RETRAINED]  # the same model, users and draws
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "seed-0.json").write_text(json.dumps(done))
    table = shop.report(tmp_path / "out")
    assert len(table.splitlines()) == 2 + plan.days
    assert (tmp_path / "out" / "two-weeks.svg").stat().st_size > 1000
