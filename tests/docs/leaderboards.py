"""Figures of the committed leaderboards, for pages that repeat them."""

from __future__ import annotations

import re

from tests.docs.runner import ROOT


def figure(folder: str, board: str, row: str, column: str) -> str:
    """A cell of `results/FOLDER/table.md`, without its deviation.

    Args:
        folder: below results/.
        board: the heading of the table; empty where the file has only one.
        row: first cell, without the stars that mark the main row.
        column: its heading.
    """
    text = (ROOT / "results" / folder / "table.md").read_text(encoding="utf-8")
    if board:
        [text] = [
            part for part in re.split(r"^### ", text, flags=re.M) if part.startswith(f"{board}\n")
        ]
    head, _, *rows = [cells(line) for line in text.splitlines() if line.startswith("|")]
    [found] = [each for each in rows if each[0].strip("*") == row]
    return found[head.index(column)].split(" ± ")[0]


def cells(line: str) -> list[str]:
    """Cells of a line of a Markdown table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
