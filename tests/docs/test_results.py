"""docs/results.md: the tables of today's boards repeat the committed leaderboards."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest

from tests.docs.leaderboards import SHORT, cells, figure, quality
from tests.docs.runner import ROOT

TEXT = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
PARTS = {name: place for name, place in SHORT.items() if name != "KuaiRand as shipped"}
RANKERS = {
    "GoalRank": "goalrank", "LambdaMART": "lambdamart", "PRM": "prm", "DNN": "dnn",
    "linear": "linear",
}  # fmt: skip
LEFT_OUT = {
    "nothing: GoalRank": "goalrank",
    "linear start": "without linear start",
    "warm start from the reward model": "without warm start",
    "slot groups": "without slot groups",
    "groups: labels instead": "labels instead of groups",
    "trees' scores": "without trees' scores",
    "history": "without history",
    "all networks: linear": "linear",
}
RIVALS = {
    "GoalRank": "goalrank",
    "the paper's method alone": "goalrank_paper",
    "preferences in pairs on the same groups": "preferences (DPO)",
    "CLIG": "clig_20",
    "MG-E of 3 generators": "mg_e_3",
    "eq. 5 alone in our groups": "goalrank_eq5",
    "three PRMs": "prm_ensemble_3",
    "sort by the reward model": "evaluator_sort",
    "EGRank": "egrank",
    "PRS": "prs",
    "NAR4Rec": "nar4rec",
    "NLGR": "nlgr",
    "supervised generator": "generator",
    "MG-E of 20": "mg_e_20",
    "XGBoost": "xgboost",
    "LambdaMART": "lambdamart",
    "best of 100 lists": "best_of_100",
    "LambdaMART over the scores of PRMs": "trees_over_prm",
    "linear": "linear",
    "retriever's order": "baseline: retriever order †",
    "PIER": "pier",
}
EQUAL = [
    "dnn", "dnn_ensemble_3", "din", "dcn_v2", "dlcm", "prm", "prm_pretrained", "setrank", "mir",
    "sasrec", "hstu", "rankmixer", "seq2slate", "group advantages (GRPO)",
]  # fmt: skip


def table(heading: str) -> list[list[str]]:
    """The first table below a heading: its head, then its rows, without bold and italics."""
    part = TEXT[TEXT.index(f"## {heading}\n") :]
    lines = part[part.index("\n|") + 1 :].split("\n\n")[0].splitlines()
    head, _, *rows = [[re.sub(r"\*", "", cell) for cell in cells(line)] for line in lines]
    return [head, *rows]


def told(shown: str) -> str:
    """A figure of the page, without its deviation."""
    return shown.split(" ± ")[0]


@pytest.mark.parametrize(
    ("heading", "folder", "boards", "rows"),
    [
        ("Short boards: today's features and recipe", "short", SHORT, RANKERS),
        ("What each part of the recipe is worth", "parts", PARTS, LEFT_OUT),
    ],
)
def test_figures_are_those_of_the_boards(heading, folder, boards, rows):
    head, *lines = table(heading)
    if folder == "short":  # boards are rows there
        named = {
            re.sub(", 12,000.*| within.*|(?<=shipped), clicks", "", line[0]): line[1:]
            for line in lines
        }
        shown = {
            (row, board): values[head.index(row) - 1]
            for board, values in named.items()
            for row in rows
        }
    else:
        shown = {
            (line[0], board): value
            for line in lines
            for board, value in zip(head[1:], line[1:], strict=True)
        }
    assert {board for _, board in shown} == set(boards)
    assert {row for row, _ in shown} == set(rows)
    for (row, board), value in shown.items():
        wanted = figure(folder, boards[board], rows[row], "ndcg@6")
        assert told(value) == wanted, (row, board)


def test_the_best_baseline_of_each_short_board():
    head, *lines = table("Short boards: today's features and recipe")
    at = head.index("best baseline without learning")
    for line, board in zip(lines, SHORT.values(), strict=True):
        best = max(value for row, value in quality("short", board).items() if row.endswith("†"))
        assert float(line[at]) == best, board


def test_rivals_are_those_of_their_board():
    _, *lines = table("Every rival with today's features")
    seen: dict[str, str] = {}
    for line in lines:
        names = [re.sub(r" \([^)]*\)", "", name).strip() for name in line[0].split("; ")]
        values = [told(value) for value in line[1].split("; ")]
        if len(names) == len(values):
            seen |= dict(zip(names, values, strict=True))
    [equal] = [line for line in lines if line[0].startswith("DNN, three DNNs")]
    assert len(equal[0].split(", ")) == len(EQUAL)
    for row in EQUAL:
        assert told(equal[1]) == figure("rivals", "", row, "ndcg@6"), row
    for name, row in RIVALS.items():
        assert seen[name] == figure("rivals", "", row, "ndcg@6"), name


def test_the_paper_protocol_and_the_same_time_are_those_of_their_boards():
    _, *lines = table("The paper's protocol")
    rows = [
        "lambdamart", "goalrank", "evaluator_sort", "goalrank_paper", "prm", "dnn", "linear",
        "baseline: retriever order (reversed) †",
    ]  # fmt: skip
    for line, row in zip(lines, rows, strict=True):
        for at, board in ((1, "ml-1m"), (3, "books")):
            assert told(line[at]) == figure("paper-short", board, row, "ndcg@6"), (row, board)
    _, *lines = table("The same time for all")
    for line, row in zip(lines, ["goalrank", "dnn, 900 steps", "prm, 900 steps"], strict=True):
        for at, board in ((1, "ml-1m"), (4, "books")):
            assert line[at] == figure("seconds", board, row, "training s"), (row, board)
            assert told(line[at + 1]) == figure("seconds", board, row, "ndcg@6"), (row, board)


def test_what_validation_says_of_the_linear_start():
    """Means over seeds of the committed file, without the start and with it, as the page has them."""
    table = pl.read_csv(ROOT / "results" / "parts" / "validation.csv")
    means = {
        (board, row): f"{100 * value:.2f}"
        for board, row, value in table.group_by("dataset", "row")
        .agg(pl.col("validation").mean())
        .iter_rows()
    }
    pairs = {
        board: f"{means[board, 'without linear start']} to {means[board, 'goalrank']}"
        for board in PARTS.values()
    }
    for board in ("books", "ml-1m", "slantour-visit"):
        assert pairs[board] in TEXT, board
    assert f"{pairs['kuairand-click']} and {pairs['kuairand-long-view']}" in TEXT
    ledger = pl.read_parquet(ROOT / "results" / "parts" / "ledger.parquet")
    tested = table.join(
        ledger.select("dataset", pl.col("ranker").alias("row"), "seed", "ndcg@6"),
        on=["dataset", "row", "seed"],
    )
    assert tested.height == table.height == 75
    apart = (tested["test"] - tested["ndcg@6"]).to_numpy()
    assert np.abs(apart).max() < 1e-5  # of the very same models
