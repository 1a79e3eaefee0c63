"""docs/which-ranker.md: each figure is what the committed results hold."""

from __future__ import annotations

import re

import pytest

from goalrank.rankers import RANKERS
from tests.docs.leaderboards import cells, figure
from tests.docs.runner import ROOT

TEXT = (ROOT / "docs" / "which-ranker.md").read_text(encoding="utf-8")
MARKED = re.compile(r"([\d.,]+)<!--=([^;]+); ([^;]*); ([^;]+); (.+?)-->")


@pytest.mark.parametrize("marked", MARKED.findall(TEXT), ids=lambda found: " ".join(found[1:]))
def test_a_figure_of_the_page_is_that_of_the_results(marked):
    shown, *address = marked
    assert shown == figure(*address)


def test_no_figure_is_without_its_source():
    assert len(MARKED.findall(TEXT)) >= 30
    tables = [line for line in MARKED.sub("", TEXT).splitlines() if line.startswith("|")]
    assert [line for line in tables if re.search(r"\d\.\d", line)] == []


def test_the_rankers_to_try_first_exist():
    rows = [cells(line) for line in TEXT.splitlines() if line.startswith("|")]
    named = {name for row in rows[2:9] for name in re.findall(r"`(\w+)`", row[1])}
    assert named >= {"linear", "goalrank", "prm", "dnn", "lambdamart"}
    assert named <= set(RANKERS)
