"""Suites: what is refused and with which words; cells and shards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalrank.errors import ConfigError, RenamedSettingWarning
from goalrank.rankers import ranker_names
from goalrank.studies.arena import run_suite
from goalrank.studies.arena.runner import read_suite, stored_plan
from goalrank.studies.common import (
    METHOD_ROWS,
    build_suite,
    load_suite,
    plan_cells,
    shard_cells,
    standard_rows,
)
from goalrank.studies.common.cells import parse_shard
from goalrank.studies.common.row_builder import RowBuilder
from goalrank.studies.common.row_specs import RowSpec
from tests.studies.arena.kit import make_suite

SUITES = sorted((Path(__file__).parents[3] / "configs" / "suites").glob("*.toml"))


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_shipped_suites_can_be_used(path):
    suite = load_suite(path)
    assert suite.name == path.stem
    assert suite.main in {row.label for row in suite.rankers}
    assert any(row.name == "baselines" for row in suite.rankers)
    assert len({cell.key for cell in plan_cells(suite)}) == len(plan_cells(suite))


def test_old_names_of_settings_work_in_recipes_and_rows(data):
    """The standard row goalrank_eq5 is laid over the recipe under the new name."""
    rows = ["goalrank_eq5", {"name": "goalrank", "set": {"objective": {"slots": 0.3}}}]
    with pytest.warns(RenamedSettingWarning, match=r"objective\.slot_group_share"):
        suite = make_suite(data, rows, recipe={"objective": {"slots": 0.7}})
    assert suite.recipe == {"objective": {"slot_group_share": 0.7}}
    builder = RowBuilder(None, suite.recipe)  # type: ignore[arg-type]
    shares = {
        row.label: builder.config(row, {}, {}).objective.slot_group_share for row in suite.rankers
    }
    assert shares == {"goalrank_eq5": 0.0, "goalrank": 0.3}


@pytest.mark.filterwarnings("error")
def test_a_stored_suite_with_old_names_is_read_without_a_warning():
    folder = Path(__file__).parents[3] / "results" / "paper-ml1m"
    assert '"slots": 0.0' in (folder / "suite.json").read_text()
    suite = read_suite(folder / "suite.json")
    assert len(stored_plan(folder)) > len(suite.rankers)
    [row] = [row for row in suite.rankers if row.label == "goalrank_eq5"]
    assert row.set["objective"]["slot_group_share"] == 0.0


def test_all_names_every_ranker():
    rows = {row["name"] for row in standard_rows().values()}
    assert set(ranker_names()) <= rows
    assert {row["options"]["k"] for row in standard_rows().values() if row["name"] == "mg_e"} == {
        3,
        20,
        100,
    }


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["goalrnk"], "did you mean 'goalrank'"),
        ([{"name": "setrnk"}], "did you mean 'setrank'"),
        ([{"name": "pier", "options": {"kep": 3}}], "did you mean 'keep'"),
        ([{"name": "mg_e", "objective": "reinforce"}], "no objective of its own"),
        ([{"name": "best_of", "options": {"base": "rankmixr"}}], "did you mean 'rankmixer'"),
        ([{"name": "dnn", "set": {"trainig": {}}}], "did you mean 'training'"),
        ([{"name": "egrank", "task": {"clp": 0.1}}], "did you mean 'clip'"),
        (["dnn", {"name": "prm", "label": "x"}, {"name": "dnn", "objectve": "own"}], "objectve"),
    ],
)
def test_unknown_names_suggest_the_nearest(data, rows, words):
    with pytest.raises(ConfigError, match=words):
        make_suite(data, rows)


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ({"source": "movielnes"}, "did you mean 'movielens'"),
        ({"source": "kuairand", "max_trian": 5}, "did you mean 'max_train'"),
        ({"source": "kuairand", "options": {"strid": 5}}, "did you mean 'stride'"),
    ],
)
def test_unknown_data_sets_suggest_the_nearest(dataset, words):
    with pytest.raises(ConfigError, match=words):
        build_suite({"name": "x", "rankers": ["dnn"], "datasets": [{"name": "d", **dataset}]})


@pytest.mark.parametrize(
    ("row", "rewarded"),
    [
        ({"name": "goalrank"}, True),
        ({"name": "goalrank", "objective": "supervised"}, False),
        ({"name": "nlgr"}, True),
        ({"name": "egrank"}, True),
        ({"name": "prm"}, False),
        ({"name": "prm", "objective": "reinforce"}, True),
        ({"name": "best_of"}, True),
        ({"name": "clig"}, True),
        ({"name": "evaluator_sort"}, True),
        ({"name": "baselines"}, False),
    ],
)
def test_which_rows_the_reward_teaches_or_chooses_for(row, rewarded):
    assert RowSpec.model_validate(row).rewarded is rewarded


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (["dnn", "rules"], ["dnn", "baselines"]),
        (["dnn", {"name": "rules"}], ["dnn", "baselines"]),
        (["dnn", "baselines", "-rules"], ["dnn"]),
    ],
)
def test_old_names_of_rows_are_read_with_a_warning(data, rows, names):
    with pytest.warns(
        RenamedSettingWarning, match=r"'rules' is now called 'baselines'.*option: rankers"
    ):
        suite = make_suite(data, rows)
    assert [row.name for row in suite.rankers] == names
    assert [row.label for row in suite.rankers] == names


def test_an_old_name_is_said_to_the_user(data, tmp_path):
    text = 'name = "old"\nmain = "dnn"\nrankers = ["dnn", "rules"]\nseeds = []\n'
    (tmp_path / "old.toml").write_text(text)
    command = [sys.executable, "-m", "goalrank", "benchmark", "run", tmp_path / "old.toml"]
    done = subprocess.run(
        [*command, "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = " ".join(done.stderr.split())
    assert "Warning: 'rules' is now called 'baselines'" in said
    assert "row_specs.py" not in said


def test_a_missing_data_folder_is_said_before_anything_runs(tmp_path, monkeypatch):
    (tmp_path / "ml-1m").mkdir()
    monkeypatch.setenv("GOALRANK_DATA", str(tmp_path))
    suite = build_suite(
        {
            "name": "x",
            "rankers": ["dnn"],
            "datasets": [{"name": "d", "source": "movielens", "path": "ml1m"}],
        }
    )
    with pytest.raises(ConfigError, match="did you mean 'ml-1m'"):
        run_suite(suite, tmp_path / "out")


def test_a_folder_belongs_to_one_suite(data, finished, tmp_path):
    _, folder = finished
    with pytest.raises(ConfigError, match="holds the suite 'mini'"):
        run_suite(make_suite(data, name="other"), folder)


def test_keys_change_with_what_they_depend_on(data):
    keys = {cell.key for cell in plan_cells(make_suite(data))}
    assert keys == {cell.key for cell in plan_cells(make_suite(data))}
    assert keys.isdisjoint(cell.key for cell in plan_cells(make_suite(data, slots=4)))
    more = {cell.key for cell in plan_cells(make_suite(data, seeds=[0, 1, 2]))}
    assert keys < more  # a longer suite runs only what it adds


@given(n=st.integers(1, 40), tuned=st.booleans())
def test_shards_are_a_partition(n, tuned):
    cells = plan_cells(make_suite(Path("anywhere")))
    parts = [shard_cells(cells, i, n, tuned) for i in range(1, n + 1)]
    keys = [cell.key for part in parts for cell in part]
    assert sorted(keys) == sorted(cell.key for cell in cells)


@pytest.mark.parametrize("text", ["0/2", "3/2", "a/b", "1", "1/2/3"])
def test_impossible_shards(text):
    with pytest.raises(ConfigError, match="--shard"):
        parse_shard(text)


def test_the_paper_row_is_the_papers_method_whatever_the_recipe(data):
    recipe = {
        "objective": {"supervised": 1.0, "slot_group_share": 1.0, "temperature": 0.3, "warm_start": True},
        "group": {"perturbed": 9, "random": 5, "logged": 1},
        "reward": {"observed": 2.0, "members": 3, "pessimism": 1.0},
    }  # fmt: skip
    suite = make_suite(data, ["goalrank_paper", "goalrank"], recipe=recipe)
    row = next(row for row in suite.rankers if row.label == "goalrank_paper")
    config = RowBuilder(None, suite.recipe).config(row, {}, {})  # type: ignore[arg-type]
    objective, group, reward = config.objective, config.group, config.reward
    assert objective.name == "group_relative_sample"
    assert (objective.temperature, objective.supervised, objective.slot_group_share) == (1, 0, 0)
    assert not objective.warm_start
    assert not objective.linear_start
    assert (group.perturbed, group.random, group.logged, group.thin) == (0, 0, 0, 0)
    assert group.own + group.light + group.heuristic == 20
    assert (reward.observed, reward.members, reward.pessimism) == (0, 1, 0)


def test_what_the_method_rows_are_is_said():
    rows = {label for label, row in standard_rows().items() if row["name"] == "goalrank"}
    assert rows == set(METHOD_ROWS)


@pytest.mark.parametrize("name", ["pier", "prs"])
def test_an_objective_that_would_be_infinite_is_refused(data, name):
    with pytest.raises(ConfigError, match="probability 0"):
        make_suite(data, [{"name": name, "objective": "group_relative"}])
    make_suite(data, [{"name": name, "objective": "supervised"}])


@pytest.mark.parametrize("metric", ["ndcg@3", "ndcg@6", "ndgc"])
def test_a_metric_that_no_cell_would_have_is_refused(data, metric):
    with pytest.raises(ConfigError, match=r"not measured; did you mean 'ndcg'\?.*without @L"):
        make_suite(data, metric=metric)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizes": [{"name": "1/2"}]}, r"sizes\.0\.name = '1/2'"),
        ({"seeds": [0, -1]}, r"seeds\.1 = -1"),
        ({"tuning": {"seed": -1}}, r"tuning\.seed = -1"),
        ({"datasets": [{"name": "d", "source": "kuairand", "seed": -1}]}, r"seed = -1"),
        ({"datasets": [{"name": "d", "source": "requests"}]}, "needs path"),
        ({"rankers": [{"name": "dnn", "label": "a\tb"}]}, "no tabs"),
    ],
)
def test_values_that_no_cell_could_use_are_refused(data, changes, words):
    with pytest.raises(ConfigError, match=words):
        make_suite(data, **changes)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('main = "goalrnk"', r"did you mean 'goalrank'\?.*option: main"),
        ('main = "baselines"', r"label of no row that learns.*option: main"),
        ("", ""),
    ],
)
def test_a_main_row_that_no_row_is_called_is_refused(tmp_path, line, words):
    path = tmp_path / "suite.toml"
    text = f'name = "x"\nrankers = ["dnn", "goalrank", "baselines"]\n{line}\n'
    path.write_text(text + '[[datasets]]\nname = "d"\nsource = "kuairand"\n')
    if words:
        with pytest.raises(ConfigError, match=words):
            load_suite(path)
    else:
        assert load_suite(path).main == "goalrank"


@pytest.mark.parametrize("line", ['protocol = "injected"', "options = {stride = 5}"])
def test_options_of_an_import_that_was_made_before_are_refused(tmp_path, line):
    path = tmp_path / "suite.toml"
    text = 'name = "x"\nrankers = ["dnn"]\n[[datasets]]\nname = "d"\nsource = "requests"\n'
    path.write_text(f'{text}path = "p"\n{line}\n')
    with pytest.raises(ConfigError, match=r"'requests' is tables.*option: datasets"):
        load_suite(path)


def test_a_folder_without_tables_is_said_before_anything_runs(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.parquet").touch()
    with pytest.raises(ConfigError, match=r"has no validation\.parquet, test\.parquet; remedy"):
        run_suite(make_suite(tmp_path / "data", ["mmr"]), tmp_path / "run", accelerator="cpu")
    assert not (tmp_path / "run" / "ledger").exists()
