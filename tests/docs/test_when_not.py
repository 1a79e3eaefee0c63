"""docs/when-not.md: what it says of the results is what they hold."""

from __future__ import annotations

import re

from tests.docs.leaderboards import cells, quality
from tests.docs.runner import ROOT

TUNED = ("retrieved-ml1m", "retrieved-books", "exposed-kuairand", "paper-ml1m", "paper-books")
IN_WORDS = {4: "four", 6: "six"}


def _best_rows(folder: str) -> list[str]:
    """The first row of each leaderboard of a study."""
    text = (ROOT / "results" / folder / "table.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| row \|.*\n\|[-:|]+\|\n(.+)", text, re.MULTILINE)
    return [cells(row)[0].strip("*") for row in tables]


def test_the_boards_that_others_lead_are_counted():
    best = [row for folder in TUNED for row in _best_rows(folder)]
    led = sum(row != "goalrank" for row in best)
    said = (
        f"On {IN_WORDS[led]} of the {IN_WORDS[len(best)]} tuned boards another row stands above it"
    )
    page = (ROOT / "docs" / "when-not.md").read_text(encoding="utf-8")
    assert said in page
    text = (ROOT / "results" / "short" / "table.md").read_text(encoding="utf-8")
    boards = re.findall(r"^### (.+)$", text, re.MULTILINE)
    found = {board: quality("short", board) for board in boards}
    above = [board for board, rows in found.items() if max(rows.values()) > rows["goalrank"]]
    assert f"on {IN_WORDS[len(above)]} of the {IN_WORDS[len(boards)]} short boards" in page
