"""A scaling grid by verbs alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.studies.scaling.test_table import write

_WORLD = Path(__file__).parents[2] / "configs" / "worlds" / "tiny.toml"
_SUITE = f"""
name = "verbs"
world = "{_WORLD}"
rankers = ["goalrank", "dnn"]
data = [16]
groups = [4]
validation = 8
test = 8
split = 0
sizes = [{{ name = "8", ranker = {{ width = 8, layers = 1, heads = 2 }} }}]
[recipe]
light = []
[recipe.training]
steps = 1
[recipe.reward]
width = 8
heads = 2
[recipe.reward.loop]
steps = 1
"""


@pytest.mark.parametrize("verb", ["run", "fit", "table", "quality"])
def test_help_has_examples(goalrank, verb):
    assert f"$ goalrank scaling {verb}" in goalrank("scaling", verb, "--help").stdout


def test_run_and_fit(goalrank, tmp_path):
    suite, out = tmp_path / "suite.toml", tmp_path / "out"
    suite.write_text(_SUITE)
    run = ("scaling", "run", suite, "--out", out, "--accelerator", "cpu", "--json")
    result = goalrank(*run)
    assert result.exit_code == 0, result.output
    done = {"ran": 2, "failed": 0, "before": 0, "elsewhere": 0, "reasons": []}
    assert json.loads(result.stdout) == done
    assert json.loads(goalrank(*run).stdout)["before"] == 2
    result = goalrank("scaling", "fit", out)
    assert result.exit_code == 0, result.output
    assert "none: 1 cells" in result.stdout
    assert "| world | goalrank | 4 |" in result.stdout
    fit = json.loads(goalrank("scaling", "fit", out, "--json").stdout)
    assert fit["fits"][0]["holds"] is False
    file = tmp_path / "tables" / "table.md"
    result = goalrank("scaling", "table", out, "--out", file)
    assert result.exit_code == 0, result.output
    assert file.read_text() in result.stdout
    drawn = tmp_path / "figures" / "regret.svg"
    assert goalrank("scaling", "table", out, "--figure", drawn).exit_code == 0
    assert drawn.read_text().startswith("<?xml")
    wrong = goalrank("scaling", "table", out, "--figure", tmp_path / "regret.doc")
    assert wrong.exit_code == 2
    assert "must end in .png or .svg" in wrong.output
    rows = json.loads(goalrank("scaling", "table", out, "--json").stdout)
    assert {row["ranker"]: row["of_the_gap"] for row in rows}["dnn"] == 0.0


def test_bad_input_is_one_screen(goalrank, tmp_path):
    assert goalrank("scaling", "fit", tmp_path).exit_code == 3
    assert goalrank("scaling", "table", tmp_path).exit_code == 3
    assert goalrank("scaling", "run", tmp_path / "no.toml", "--out", tmp_path).exit_code == 2


@pytest.mark.parametrize("verb", ["table", "quality"])
def test_nothing_is_written_where_a_part_cannot_be(goalrank, tmp_path, verb):
    write(tmp_path, "goalrank", 0, 3.5, choices=1, method="goalrank")
    told = {"choices": 20, "method": "best_of", "correlation_random": 0.7}
    write(tmp_path, "best_of_20", 0, 3.0, **told)
    out = tmp_path / "table.md"
    ask = ("scaling", verb, tmp_path, "--out", out)
    wrong = goalrank(*ask, "--figure", tmp_path / "figure.pdf")
    assert (wrong.exit_code, out.exists()) == (2, False)
    assert "remedy" in wrong.output
    same = goalrank(
        "scaling", verb, tmp_path, "--out", tmp_path / "x.svg", "--figure", tmp_path / "x.svg"
    )
    assert same.exit_code == 2
    assert "--out and --figure both name" in same.output
    assert goalrank(*ask).exit_code == 0


@pytest.mark.parametrize("verb", ["table", "quality"])
def test_failed_cells_are_said(goalrank, tmp_path, verb):
    write(tmp_path, "goalrank", 0, 3.5, choices=1, method="goalrank")
    told = {"choices": 20, "method": "best_of", "correlation_random": 0.7}
    write(tmp_path, "best_of_20", 0, 3.0, **told)
    write(tmp_path, "mg_e_20", 0, 3.0, status="failed", reason="k is 0")
    result = goalrank("scaling", verb, tmp_path)
    assert result.exit_code == 0, result.output
    assert "without what failed: 1 cell failed: k is 0" in result.stderr


def test_a_run_says_why_cells_failed(goalrank, tmp_path):
    suite, out = tmp_path / "suite.toml", tmp_path / "out"
    row = '{ name = "best_of", options = { base = "dnn", lists = 0 } }'
    suite.write_text(_SUITE.replace('["goalrank", "dnn"]', f'["dnn", {row}]'))
    for ran in (2, 0):  # and again where they failed before
        result = goalrank("scaling", "run", suite, "--out", out, "--accelerator", "cpu")
        assert f"{ran} cells run" in result.stdout
        assert "1 cell failed: ConfigError: lists is 0" in result.stderr
