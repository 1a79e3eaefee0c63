"""Figures of the committed leaderboards, for pages that repeat them."""

from __future__ import annotations

import re

from tests.docs.runner import ROOT

# Boards of results/short, as pages name them.
SHORT = {
    "MovieLens-1M": "ml-1m",
    "Amazon Books": "books",
    "Slantour, visits": "slantour-visit",
    "KuaiRand, long views": "kuairand-long-view",
    "KuaiRand, clicks": "kuairand-click",
    "KuaiRand as shipped": "shipped-kuairand",
}


def rows(folder: str, board: str) -> dict[str, dict[str, str]]:
    """Rows of a board of `results/FOLDER/table.md`, the first being the best: heading → cell.

    Args:
        folder: below results/.
        board: the heading of the table; empty where the file has only one.
    """
    text = (ROOT / "results" / folder / "table.md").read_text(encoding="utf-8")
    if board:
        [text] = [
            part for part in re.split(r"^### ", text, flags=re.M) if part.startswith(f"{board}\n")
        ]
    head, _, *lines = [cells(line) for line in text.splitlines() if line.startswith("|")]
    named = [dict(zip(head, line, strict=True)) for line in lines]
    assert len({line[0] for line in lines}) == len(lines)
    return {row[head[0]].strip("*"): row for row in named}


def figure(folder: str, board: str, row: str, column: str) -> str:
    """A cell of a board, without its deviation.

    Args:
        folder: as for `rows`.
        board: as for `rows`.
        row: first cell, without the stars that mark the main row.
        column: its heading.
    """
    return rows(folder, board)[row][column].split(" ± ")[0]


def quality(folder: str, board: str) -> dict[str, float]:
    """ndcg@6 of each row of a board.

    Args:
        folder: as for `rows`.
        board: as for `rows`.
    """
    return {row: float(figure(folder, board, row, "ndcg@6")) for row in rows(folder, board)}


def cells(line: str) -> list[str]:
    """Cells of a line of a Markdown table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
