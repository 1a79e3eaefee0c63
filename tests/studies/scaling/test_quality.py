"""Gain over evaluators beside the reward's quality, from cells whose numbers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from goalrank.errors import ConfigError, DataError
from goalrank.studies.scaling import (
    BreakEven,
    break_even,
    draw_by_quality,
    evaluators_by_quality,
    quality_markdown,
)
from tests.studies.scaling.test_table import write


def evaluator(folder: Path, k: int, seed: int, reward: float, quality: float, **more: Any) -> None:
    told = {"method": "best_of", "choices": k, "correlation_random": quality, **more}
    write(folder, f"best_of_{k}", seed, reward, **told)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An evaluator is ahead with 100 requests, level at best with 200, behind with 300."""
    for data, ours, theirs, quality in (
        (100, 3.0, 3.2, 0.5),
        (200, 3.3, 3.3, 0.6),
        (300, 3.8, 3.5, 0.8),
    ):
        for seed in (0, 1):
            write(
                tmp_path,
                "goalrank",
                seed,
                ours + 0.1 * seed,
                data=data,
                group=20,
                method="goalrank",
                choices=1,
            )
            evaluator(tmp_path, 20, seed, theirs, quality + 0.02 * seed, data=data)
            evaluator(tmp_path, 1, seed, 0.0, quality, data=data)
    return tmp_path  # fmt: skip


def test_rows_are_paired_and_sorted_by_quality(folder: Path) -> None:
    rows = evaluators_by_quality([folder]).to_dicts()
    assert [row["ranker"] for row in rows] == ["best_of_20"] * 3  # one list is no choice
    assert [row["quality"] for row in rows] == pytest.approx([0.51, 0.61, 0.81])
    assert [row["gain"] for row in rows] == pytest.approx([-0.15, 0.05, 0.35])
    assert rows[0]["deviation"] == pytest.approx(0.1 / 2**0.5)
    assert [row["seeds"] for row in rows] == [2, 2, 2]


def test_the_break_even_is_by_the_best_evaluator_of_a_place(folder: Path) -> None:
    edge = break_even(evaluators_by_quality([folder]))
    assert [edge.lost, edge.won, edge.exceptions] == pytest.approx([0.51, 0.61, 0])
    evaluator(folder, 500, 0, 3.3, 0.61, data=200)  # level with ours of that seed
    edge = break_even(evaluators_by_quality([folder]))
    assert [edge.lost, edge.won, edge.exceptions] == pytest.approx([0.61, 0.81, 0])
    text = quality_markdown(evaluators_by_quality([folder]))
    assert text.startswith(
        "goalrank stands above every evaluator from a quality of 0.81 on; at 0.61"
    )


def test_another_world_is_another_place(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    write(other, "goalrank", 0, 3.0, data=100, best=5.0)
    evaluator(other, 20, 0, 2.0, 0.4, data=100, best=5.0)
    table = evaluators_by_quality([folder, other])
    assert table["gain"].to_list()[:2] == pytest.approx([1.0, -0.15])
    assert break_even(table).exceptions == 1
    assert "above all in 1 of the worlds" in quality_markdown(table)


def test_all_won_and_all_lost_are_said(folder: Path) -> None:
    won = evaluators_by_quality([folder])[-1:]
    assert break_even(won) == BreakEven(None, won["quality"].item(), 0)
    assert "at every quality measured, from 0.81 on" in quality_markdown(won)
    lost = evaluators_by_quality([folder])[:1]
    assert break_even(lost) == BreakEven(lost["quality"].item(), None, 0)
    assert "up to the highest quality measured, 0.51" in quality_markdown(lost)


def test_the_figure_leaves_few_lists_to_the_table(folder: Path, tmp_path: Path) -> None:
    evaluator(folder, 5, 0, 3.0, 0.5, data=100)
    drawn = draw_by_quality(evaluators_by_quality([folder]), tmp_path / "q.svg").read_text()
    assert "goalrank minus evaluator" in drawn
    assert "best_of_5" not in drawn


def test_what_cannot_be_compared_is_said(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(ConfigError, match=r"no row 'pmr'.*best_of_1, best_of_20, goalrank"):
        evaluators_by_quality([folder], against="pmr")
    empty = tmp_path_factory.mktemp("empty")
    write(empty, "goalrank", 0, 3.0)
    with pytest.raises(DataError, match="no evaluator that chooses among lists"):
        evaluators_by_quality([empty])
    apart = tmp_path_factory.mktemp("apart")
    write(apart, "goalrank", 0, 3.0)
    evaluator(apart, 20, 1, 3.0, 0.5)
    with pytest.raises(DataError, match="add the folder of that row"):
        evaluators_by_quality([apart])
    twice = json.loads((folder / "cells" / "goalrank-100-0.json").read_text())
    (folder / "cells" / "again.json").write_text(json.dumps({**twice, "group": 8}))
    with pytest.raises(ConfigError, match="several groups or suites"):
        evaluators_by_quality([folder])


def test_an_evaluator_without_a_partner_is_shown_without_a_gain(folder: Path) -> None:
    before = break_even(evaluators_by_quality([folder]))
    evaluator(folder, 100, 0, 3.0, 0.9, data=400)
    table = evaluators_by_quality([folder])
    assert table.row(-1, named=True)["ranker"] == "best_of_100"
    assert (table["seeds"][-1], table["gain"][-1]) == (0, None)
    assert break_even(table) == before
    assert "| 0.900 | best_of_100 | 100 | planted | s | 400 | 0 | – |" in quality_markdown(table)
