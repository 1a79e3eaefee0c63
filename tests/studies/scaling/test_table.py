"""Rows of grids side by side, from cells whose numbers are known."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from goalrank.errors import ConfigError, DataError
from goalrank.studies.scaling import draw_by_k, draw_scaling_table, scaling_markdown, scaling_table

BEST = 4.0


def write(folder: Path, ranker: str, seed: int, reward: float, **more: Any) -> None:
    cell = {
        "suite": "planted", "source": "world", "ranker": ranker, "size": "s", "data": 100,
        "group": 0, "seed": seed, "status": "ok", "best": BEST, "regret": BEST - reward, "true_reward": reward,
        "loss": BEST - reward, "parameters": 10, "flops_training": 1.0,
    }  # fmt: skip
    cells = folder / "cells"
    cells.mkdir(parents=True, exist_ok=True)
    name = f"{ranker}-{more.get('data', 100)}-{seed}.json"
    (cells / name).write_text(json.dumps({**cell, **more}))


@pytest.fixture
def grid(tmp_path):
    for seed, (low, high, top) in enumerate([(2.0, 3.0, 3.5), (2.2, 3.2, 3.6)]):
        write(tmp_path, "dnn", seed, low, scorer=True)
        write(tmp_path, "prm", seed, high, scorer=True)
        write(tmp_path, "goalrank", seed, top, scorer=False, group=8, policy_error=0.1 * seed)
        write(tmp_path, "lost", seed, 0.0, status="failed")
        write(tmp_path, "real", seed, 0.0, source="requests")
    return tmp_path


def test_the_gap_is_from_the_best_scorer_of_the_same_seed(grid):
    rows = {row["ranker"]: row for row in scaling_table([grid]).to_dicts()}
    assert list(rows) == ["goalrank", "prm", "dnn"]
    assert rows["goalrank"]["of_the_gap"] == pytest.approx((0.5 / 1.0 + 0.4 / 0.8) / 2)
    assert rows["prm"]["of_the_gap"] == pytest.approx(0.0)
    assert rows["dnn"]["of_the_gap"] == pytest.approx((-1.0 / 1.0 - 1.0 / 0.8) / 2)
    assert rows["goalrank"]["true_reward"] == pytest.approx(3.55)
    assert rows["goalrank"]["deviation"] == pytest.approx(0.05 * 2**0.5)
    assert rows["goalrank"]["policy_error"] == pytest.approx(0.05)
    assert rows["dnn"]["policy_error"] is None


def test_every_data_size_has_a_gap_of_its_own(grid):
    write(grid, "prm", 0, 3.6, data=500, scorer=True)
    write(grid, "goalrank", 0, 3.8, data=500, scorer=False)
    rows = scaling_table([grid]).to_dicts()
    assert [row["data"] for row in rows] == [100, 100, 100, 500, 500]
    assert rows[3]["of_the_gap"] == pytest.approx(0.5)
    text = scaling_markdown(scaling_table([grid]))
    assert "| row | data |" in text
    assert "| goalrank | 500 |" in text


def test_the_figure_has_every_row_least_regret_first(grid, tmp_path):
    write(grid, "goalrank", 0, 3.9, data=500, suite="other")
    table = scaling_table([grid])
    text = draw_scaling_table(table, tmp_path / "rows.svg").read_text()
    places = [
        text.index(name)
        for name in ("goalrank, data 500", "goalrank, data 100", "prm, data", "dnn, data")
    ]
    assert places == sorted(places)
    assert {"planted", "other"} <= set(re.findall(r">(\w+)</text>", text))
    assert {"0.100", "0.450", "0.900"} <= set(re.findall(r">([\d.]+)</text>", text))


def test_a_group_size_is_named_where_there_are_two(grid):
    head = scaling_markdown(scaling_table([grid])).splitlines()[2]
    assert "group" not in head
    write(grid, "goalrank", 0, 3.7, group=20, data=101)
    assert "| group |" in scaling_markdown(scaling_table([grid])).splitlines()[2]


def test_several_folders_and_rows_without_a_scorer(tmp_path):
    write(tmp_path / "a", "goalrank", 0, 3.0)
    write(tmp_path / "b", "goalrank", 0, 3.5, suite="other")
    text = scaling_markdown(scaling_table([tmp_path / "a", tmp_path / "b"]))
    assert "| goalrank | other | 1 | 3.5000 | – |" in text
    assert "| goalrank | planted | 1 | 3.0000 | – |" in text


def test_a_seed_without_the_best_scorer_has_the_next_one(grid):
    write(grid, "setrank", 0, 3.4, scorer=True)
    rows = {row["ranker"]: row for row in scaling_table([grid]).to_dicts()}
    assert rows["goalrank"]["of_the_gap"] == pytest.approx((0.1 / 0.6 + 0.4 / 0.8) / 2)


def test_gains_are_paired_by_seed(grid, tmp_path):
    write(grid, "late", 1, 3.9)
    write(grid, "elsewhere", 2, 3.9)
    write(tmp_path / "more", "prm", 1, 3.0, suite="other", scorer=True)
    table = scaling_table([grid, tmp_path / "more"], against="prm")
    rows = {(row["suite"], row["ranker"]): row for row in table.to_dicts()}
    late = rows["planted", "late"]
    # Over its own seed; the mean of both seeds of the other row would give 0.8.
    assert (late["gain"], late["gain_deviation"], late["paired"]) == (pytest.approx(0.7), None, 1)
    assert rows["planted", "prm"]["gain"] == 0.0
    assert rows["planted", "goalrank"]["gain"] == pytest.approx((0.5 + 0.4) / 2)
    assert rows["planted", "elsewhere"]["gain"] is None
    assert rows["other", "prm"]["gain"] == pytest.approx(-0.2)
    text = scaling_markdown(table)
    assert "| late | planted | 1 | 3.9000 | +0.7000 | 1 |" in text
    assert "| elsewhere | planted | 1 | 3.9000 | – | 0 |" in text
    assert "gain" not in scaling_markdown(scaling_table([grid]))


def test_the_figure_of_gains_has_losses_too(grid, tmp_path):
    write(grid, "elsewhere", 2, 3.9)
    table = scaling_table([grid], against="prm")
    text = draw_scaling_table(table, tmp_path / "gains.svg").read_text()
    places = [text.index(f">{name}<") for name in ("goalrank", "prm", "dnn")]
    assert places == sorted(places)
    assert ">nan<" not in text
    assert {"0.450", "0.000", "-1.000"} <= set(re.findall(r">([\d.-]+)</text>", text))


def test_a_row_to_compare_with_must_be_one(grid):
    with pytest.raises(ConfigError, match="no row 'pmr' in these grids; they have dnn, goalrank"):
        scaling_table([grid], against="pmr")
    write(grid, "goalrank", 7, 3.7, group=20)
    with pytest.raises(ConfigError, match=r"groups of \[8, 20\] lists"):
        scaling_table([grid], against="goalrank")


def test_nothing_on_a_world_is_said(tmp_path):
    write(tmp_path, "real", 0, 0.0, source="requests")
    with pytest.raises(DataError, match="no finished cell on a world"):
        scaling_table([tmp_path])


def test_regret_over_k_has_a_line_a_kind_of_row(grid, tmp_path):
    for seed in (0, 1):
        for k, reward in ((1, 3.0), (20, 3.4), (100, 3.6)):
            write(grid, f"best_of_{k}", seed, reward - 0.1 * seed, method="best_of", choices=k)
        write(grid, "clig_20", seed, 3.5, method="clig", choices=20)
    table = scaling_table([grid])
    text = draw_by_k(table, tmp_path / "by-k.svg", level="goalrank").read_text()
    assert ">best of k draws<" in text
    assert ">goalrank<" in text
    assert "CLIG" not in text  # one k makes no line
    assert {"1", "20", "100"} <= set(re.findall(r">([\d.-]+)</text>", text))
    assert "goalrank" not in draw_by_k(table, tmp_path / "alone.svg").read_text()


def test_every_line_over_k_has_the_level_of_its_own_data(grid, tmp_path):
    for data, gain in ((100, 0.0), (500, 0.2)):
        for k, reward in ((1, 3.0), (20, 3.4)):
            write(grid, f"best_of_{k}", 0, reward + gain, method="best_of", choices=k, data=data)
    for size in ("s", "large"):  # a size without a line has no level
        more = {"group": 8, "data": 500, "size": size, "choices": 1, "method": "goalrank"}
        write(grid / size, "goalrank", 0, 3.8, **more)
    table = scaling_table([grid, grid / "s", grid / "large"])
    text = draw_by_k(table, tmp_path / "by-k.svg", level="goalrank").read_text()
    names = set(re.findall(r">([a-z][^<]* data [\d,]+)</text>", text))
    lines = "best of k draws"
    assert names == {f"{name}, data {d}" for name in (lines, "goalrank") for d in (100, 500)}


def test_without_two_numbers_of_lists_there_is_nothing_over_k(grid, tmp_path):
    with pytest.raises(DataError, match="nothing over k"):
        draw_by_k(scaling_table([grid]), tmp_path / "by-k.svg")
    write(grid, "best_of_5", 0, 3.0, method="best_of", choices=5)
    with pytest.raises(DataError, match="nothing over k"):
        draw_by_k(scaling_table([grid]), tmp_path / "by-k.svg")
    assert not (tmp_path / "by-k.svg").exists()
