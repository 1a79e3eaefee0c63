"""The README's table repeats the committed leaderboards, and the page stays short."""

from __future__ import annotations

from tests.docs.leaderboards import SHORT, quality
from tests.docs.runner import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = {
    "GoalRank": "goalrank", "LambdaMART": "lambdamart", "PRM": "prm", "DNN": "dnn",
    "linear model": "linear",
}  # fmt: skip


def table() -> list[list[str]]:
    """Cells of the README's table of results."""
    lines = README[README.index("## Results") : README.index("## Serve")].splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]


def test_the_table_repeats_the_leaderboards():
    head, _, *rows = table()
    assert [name.removesuffix(" †") for name in head[1:]] == list(SHORT)
    found = {row[0].strip("*"): row[1:] for row in rows}
    assert list(found) == [*ROWS, "best baseline without learning"]
    for at, (name, place) in enumerate(SHORT.items()):
        board = quality("short", place)
        for label, row in ROWS.items():
            assert float(found[label][at].strip("*")) == board[row], (name, label)
        best = max(value for row, value in board.items() if row.endswith("†"))
        assert float(found["best baseline without learning"][at].strip("*")) == best, name
        above = max(board.values()) > board["goalrank"]
        assert head[at + 1].endswith("†") == above, name


def test_the_page_is_short():
    assert len(README.splitlines()) <= 120
