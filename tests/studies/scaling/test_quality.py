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
    write(folder, told.pop("ranker", f"best_of_{k}"), seed, reward, **told)


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
        "By means over seeds, goalrank stands above every evaluator from a quality of 0.81 on; at "
        "0.61"
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
    assert "above all with 1 reward model)" in quality_markdown(table)


def test_all_won_and_all_lost_are_said(folder: Path) -> None:
    won = evaluators_by_quality([folder])[-1:]
    assert break_even(won) == BreakEven(None, won["quality"].item(), 0)
    assert "at every quality measured, from 0.81 on" in quality_markdown(won)
    lost = evaluators_by_quality([folder])[:1]
    assert break_even(lost) == BreakEven(lost["quality"].item(), None, 0)
    assert "highest quality at which both were measured, 0.51" in quality_markdown(lost)


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


def test_an_evaluator_of_another_reward_model_has_a_quality_of_its_own(folder: Path) -> None:
    """A biased reward's quality and a good one's are not averaged, though world and size are one."""
    for seed in (0, 1):
        evaluator(folder, 20, seed, 2.0, 0.9, data=100, ranker="unbiased")
    table = evaluators_by_quality([folder])
    assert table["quality"].to_list() == pytest.approx([0.51, 0.61, 0.81, 0.9])
    edge = break_even(table)
    assert [edge.lost, edge.won, edge.exceptions] == pytest.approx([0.51, 0.61, 0])


def test_quality_and_gain_are_of_the_same_seeds(folder: Path) -> None:
    evaluator(folder, 20, 7, 3.2, 0.1, data=100)  # no partner
    for seed in (0, 1):
        evaluator(folder, 50, seed, 3.2, 0.3, data=100, correlation_random=[0.3, None][seed])
    rows = {row["ranker"]: row for row in evaluators_by_quality([folder]).to_dicts()[:2]}
    assert rows["best_of_20"]["quality"] == pytest.approx(0.51)
    assert rows["best_of_50"]["gain"] == pytest.approx(-0.2)
    assert [row["seeds"] for row in rows.values()] == [1, 2]


def test_group_sizes_of_an_evaluator_are_not_seeds(folder: Path) -> None:
    for seed in (0, 1):
        evaluator(folder, 20, seed, 3.0, 0.9, data=300, ranker="taught", group=8)
    for path in (folder / "cells").glob("taught*"):
        path.rename(path.with_name(f"8-{path.name}"))
    for seed in (0, 1):
        evaluator(folder, 20, seed, 3.2, 0.9, data=300, ranker="taught", group=20)
    rows = evaluators_by_quality([folder]).to_dicts()[-2:]
    assert [(row["group"], row["seeds"]) for row in rows] == [(8, 2), (20, 2)]
    assert [row["gain"] for row in rows] == pytest.approx([0.85, 0.65])
    assert "| taught, groups of 8 |" in quality_markdown(evaluators_by_quality([folder]))


def test_a_seed_counts_once(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    for again in (folder, folder / ".." / folder.name):
        with pytest.raises(DataError, match=r"both of row .* given twice"):
            evaluators_by_quality([folder, again])
    copied = tmp_path_factory.mktemp("copied")
    evaluator(copied, 20, 0, 3.2, 0.5, data=100)
    with pytest.raises(
        DataError, match="row 'best_of_20' of suite 'planted', size s, 100 requests"
    ):
        evaluators_by_quality([folder, copied])


def test_a_teacher_that_knows_the_truth_is_no_partner(folder: Path) -> None:
    for path in (folder / "cells").glob("goalrank-300-*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "teacher": "truth"}))
    assert evaluators_by_quality([folder])["seeds"].to_list() == [2, 2, 0]


def test_an_evaluator_is_no_row_to_compare_with(folder: Path) -> None:
    with pytest.raises(ConfigError, match="'best_of_20' chooses among 20 lists"):
        evaluators_by_quality([folder], against="best_of_20")


def test_an_unmeasured_reward_model_is_shown_without_a_quality(folder: Path) -> None:
    before = break_even(evaluators_by_quality([folder]))
    evaluator(folder, 60, 0, 9.0, 0.0, data=100, correlation_random=None)
    table = evaluators_by_quality([folder])
    assert break_even(table) == before
    assert "| – | best_of_60 | 60 | planted | s | 100 | 1 | -6.0000 |" in quality_markdown(table)


def test_qualities_that_read_alike_are_alike(folder: Path) -> None:
    evaluator(folder, 20, 0, 9.0, 0.8099, data=400)
    write(folder, "goalrank", 0, 3.0, data=400, group=20)
    edge = break_even(evaluators_by_quality([folder]))
    assert (edge.lost, edge.won) == (0.81, None)  # not "from 0.81 on; at 0.81 one is level"


def test_how_sure_the_least_lead_is(folder: Path) -> None:
    least = "over best_of_20 at 0.61: +0.0500 ± 0.0707, 2 seeds, not told apart from 0"
    assert least in quality_markdown(evaluators_by_quality([folder]))
    for seed, more in ((2, 0.05), (3, 0.06), (4, 0.05)):
        write(folder, "goalrank", seed, 3.3 + more, data=200, group=20)
        evaluator(folder, 20, seed, 3.3 - more, 0.61, data=200)
    said = quality_markdown(evaluators_by_quality([folder]))
    assert "5 seeds, told apart from 0 (paired t test over seeds, p 0.0" in said
    # By hand: gains 0, 0.1, 0.1, 0.12, 0.1; mean 0.084, deviation 0.0477, t 3.94 of 4 degrees.
    assert "p 0.017" in said
    for path in (folder / "cells").glob("*-[1234].json"):
        path.unlink()
    said = quality_markdown(evaluators_by_quality([folder])[2:])
    assert "+0.3000, 1 seed, which says nothing of chance." in said
