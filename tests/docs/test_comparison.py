"""docs/comparison.md names each tool, is dated and sourced, and claims no figure of ours."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from goalrank.rankers import RANKERS
from tests.docs.runner import ROOT

TEXT = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
TOOLS = (
    "Metarank", "LibRerank", "ReChorus", "RecBole", "RecTools", "TF-Ranking", "allRank",
    "LightGBM alone",
)  # fmt: skip


def section(name: str) -> str:
    """What stands below a heading."""
    [found] = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
    return str(found).strip()


@pytest.mark.parametrize("name", TOOLS)
def test_each_tool_has_a_row_and_a_sourced_section(name):
    anchor = name.lower().replace(" ", "-")
    assert re.search(rf"^\| \[{name}\]\(#{anchor}\) \|", TEXT, re.M)
    text = section(name)
    assert re.search(r"\]\(https://\S+\)", text.split("\n\n")[0])
    for part in ("*Better there*", "*Take goalrank*"):
        assert text.count(part) == 1
    assert re.search(rf"\*Take {name.split()[0]}\*", text)


def test_the_page_is_dated():
    [day] = re.findall(r"^As of (\d+ \w+ \d{4})\.", TEXT, re.M)
    assert datetime(2026, 1, 1, tzinfo=UTC) < datetime.strptime(day, "%d %B %Y").replace(tzinfo=UTC)


def test_own_weak_points_are_named():
    assert "(when-not.md)" in section("goalrank's own weak points")


def test_no_score_is_claimed():
    """Scores have decimals or a percent sign; they belong to pages that a test holds to results/."""
    prose = re.sub(r"\]\([^)]*\)", "]", TEXT)
    versions = re.compile(r"(?:ReChorus|TensorFlow|version) \d+\.\d+")
    assert re.findall(r"\d+\.\d+|\d\s*%", versions.sub("", prose)) == []


def test_methods_that_are_said_to_be_lacking_are():
    assert {"gsf", "midnn"}.isdisjoint(RANKERS)
    assert {"prm", "dlcm", "setrank", "seq2slate", "egrank"} <= set(RANKERS)
