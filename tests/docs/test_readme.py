"""The README's commands do what it says, with trainings cut short."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from goalrank import load, training
from tests.api.kit import TINY
from tests.docs.runner import run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def short(monkeypatch):
    """Every recipe keeps its structure and loses its steps."""
    full = training.load_config

    def load_config(path=None, overrides=()):
        cut = [s for s in TINY if ".steps=" in s or "width" in s or "heads" in s]
        return full(full(path, overrides), cut)

    monkeypatch.setattr(training, "load_config", load_config)
    monkeypatch.setattr("goalrank.api.model.load_config", load_config)


def test_python_and_command_line(tmp_path, monkeypatch, short):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    done = run(ROOT / "README.md")
    assert sum(command.startswith("goalrank") for command in done) >= 5
    test = pl.read_parquet("data/kuairand/test.parquet")
    lists = pl.read_parquet("lists.parquet")
    assert lists["request_id"].equals(test["request_id"])
    assert load("runs/python").config.name == "goalrank"


def test_links_lead_somewhere():
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "docs/results.md",
        "docs/your-logs.md",
        "docs/worlds.md",
        "docs/extending.md",
        "examples/plugin/README.md",
    ):
        path = ROOT / name
        for link in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
            if not link.startswith("http"):
                assert (path.parent / link).exists(), f"{name} links to {link}"


def test_make_targets_exist():
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "".join((ROOT / n).read_text(encoding="utf-8") for n in ("README.md", "CONTRIBUTING.md"))
    for target in set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE)):
        assert re.search(rf"^{target}:", rules, re.MULTILINE), target
