"""Names: built in, of plug-ins, by class path; and what is said of those that cannot be used."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from goalrank.cli import app
from goalrank.errors import ConfigError
from goalrank.evaluation import METRICS
from goalrank.logs import CHANNELS, SOURCES
from goalrank.rankers import DNN, RANKERS, RankerConfig, RetrieverOrder, build_ranker
from goalrank.registry import GROUPS, Registry, also_search
from goalrank.rewards import REWARDS
from goalrank.training import OBJECTIVES, build_config
from tests.plugins import Installer
from tests.rankers.kit import rich_columns, spec_of

EVERY: tuple[Registry[Any], ...] = (CHANNELS, METRICS, OBJECTIVES, RANKERS, REWARDS, SOURCES)
SCORER = """
from goalrank.rankers import Scorer


class Mine(Scorer):
    def __init__(self, spec, *, gain: float = 1.0):
        super().__init__()
        self.gain = gain

    def scores(self, batch):
        return self.gain * batch.candidate_score
"""


@pytest.fixture
def install(tmp_path, monkeypatch) -> Iterator[Installer]:
    installer = Installer(tmp_path, monkeypatch)
    yield installer
    installer.forget()


@pytest.mark.parametrize("registry", EVERY, ids=lambda registry: registry.kind)
def test_every_name_of_ours_leads_somewhere(registry):
    assert registry.group in GROUPS
    assert registry.builtin_names
    for name in registry.builtin_names:
        assert registry[name] is registry.builtin(name)
        assert registry[registry.path(name)] is registry[name]


def test_knowing_names_imports_nothing():
    code = (
        "import sys, goalrank.registry as r; r.installed_plugins()\n"
        "x = r.Registry('thing', 'goalrank.rankers', {'a': 'goalrank.rankers:DNN'}, option='o')\n"
        "x.names(), x.check('a'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_a_class_path_stands_where_a_name_does():
    assert RANKERS["goalrank.rankers:DNN"] is DNN
    spec = spec_of(rich_columns())
    made = build_ranker(spec, RankerConfig(name="goalrank.rankers:RetrieverOrder"))
    assert isinstance(made, RetrieverOrder)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("goalrnk", "ranker 'goalrnk' is unknown; did you mean 'goalrank'"),
        ("zzz", r"is unknown\. Known: .*dnn.*; option: ranker.name"),
        ("a b:C", "no class path"),
        ("nowhere.at_all:C", "cannot be imported.*nowhere.*'nowhere' is installed"),
        ("goalrank.nn:Nothing", "cannot be imported.*Nothing"),
        ("torch:Tensor", "no ranker: it is the class Tensor, but must be a subclass of"),
        ("json:dumps", "no ranker: it is function"),
    ],
)
def test_names_that_lead_nowhere(name, words):
    with pytest.raises(ConfigError, match=words):
        RANKERS[name]


def test_names_of_plugins_are_names(install):
    install.add("mine 1.0", {"goalrank.rankers": {"mine": "mine:Mine"}}, SCORER)
    assert "mine" in RANKERS.names()
    config = RankerConfig(name="mine", options={"gain": 2.0})
    assert build_ranker(spec_of(rich_columns()), config).gain == 2.0
    with pytest.raises(ConfigError, match="no option 'gian'; did you mean 'gain'"):
        build_ranker(spec_of(rich_columns()), config.model_copy(update={"options": {"gian": 2.0}}))


def test_a_plugin_that_fails_is_named_and_the_rest_works(install):
    install.add("mine 1.0", {"goalrank.rankers": {"mine": "mine:Mine"}}, SCORER)
    install.add(
        "broken 0.3", {"goalrank.rankers": {"bad": "broken:Bad"}}, "raise RuntimeError('no luck')"
    )
    with pytest.raises(
        ConfigError, match=r"'bad' of the plug-in broken 0\.3 .*RuntimeError: no luck.*uninstall"
    ):
        RANKERS["bad"]
    assert RANKERS["mine"].__name__ == "Mine"
    assert RANKERS["dnn"] is DNN
    assert {"bad", "mine"} <= set(RANKERS.names())


def test_a_plugin_that_ends_the_process_does_not(install):
    install.add("rude 1.0", {"goalrank.metrics": {"rude": "rude:f"}}, "import sys; sys.exit(3)")
    with pytest.raises(ConfigError, match=r"rude 1\.0"):
        METRICS["rude"]


def test_two_plugins_of_one_name_are_both_named(install):
    for name in ("first", "second"):
        install.add(f"{name} 1.0", {"goalrank.rankers": {"mine": f"{name}:Mine"}}, SCORER)
    with pytest.raises(
        ConfigError, match=r"2 rankers are called 'mine': .*first 1\.0.*second 1\.0.*in full"
    ):
        RANKERS["mine"]
    assert RANKERS["second:Mine"].__module__ == "second"


def test_a_plugin_does_not_take_a_name_of_ours(install):
    install.add("thief 1.0", {"goalrank.rankers": {"dnn": "thief:Mine"}}, SCORER)
    with pytest.raises(ConfigError, match=r"called 'dnn': .*goalrank itself.*thief 1\.0"):
        RANKERS["dnn"]
    assert RANKERS.builtin("dnn") is DNN
    assert RANKERS["thief:Mine"].__module__ == "thief"


def test_doctor_lists_plugins_and_what_is_wrong_with_them(install):
    install.add("mine 1.0", {"goalrank.rankers": {"mine": "mine:Mine"}}, SCORER)
    install.add("broken 0.3", {"goalrank.sources": {"bad": "broken:read"}}, "import absent_thing")
    install.add("thief 1.0", {"goalrank.metrics": {"ndcg": "thief:ndcg"}}, "def ndcg(v): ...")
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["plug-in ranker mine"] == "mine:Mine of mine 1.0"
    assert "broken: " in facts["plug-in source bad"]
    assert "absent_thing" in facts["plug-in source bad"]
    assert "goalrank itself" in facts["plug-in metric ndcg"]


def test_what_was_recorded_is_found_where_it_moved():
    assert RANKERS.recorded("goalrank.somewhere.else:DNN") is DNN
    assert RANKERS.recorded("dnn") is DNN
    assert REWARDS.recorded("ListReward") is REWARDS["list_reward"]
    assert RANKERS.recorded("goalrank.rankers:RetrieverOrder") is RetrieverOrder
    with pytest.raises(ConfigError, match="no ranker 'mine'"):
        RANKERS.recorded("mine")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"objective": {"name": "group_relativ"}}, "did you mean 'group_relative'"),
        ({"objective": {"name": "supervisd"}}, "did you mean 'supervised'"),
        ({"objective": {"name": "not a path:at all"}}, "no class path"),
    ],
)
def test_recipes_refuse_names_that_lead_nowhere(settings, words):
    with pytest.raises(ConfigError, match=f"objective.name.*{words}"):
        build_config(settings)
    assert build_config({"objective": {"name": "some.where:loss"}}).objective.name


def test_a_file_in_the_folder_of_the_command_is_found_after_all_that_is_installed(
    tmp_path, monkeypatch
):
    (tmp_path / "beside_the_data.py").write_text("def share(values): return values.hit.mean(1)\n")
    (tmp_path / "polars.py").write_text("raise RuntimeError('hides the installed one')\n")
    monkeypatch.setattr("goalrank.registry._FOLDERS", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ConfigError, match="lies in the folder in which the command runs"):
        METRICS["beside_the_data:share"]
    also_search(tmp_path)
    with pytest.raises(ConfigError, match="No module named 'nowhere'"):
        METRICS["nowhere:share"]
    assert str(tmp_path) not in sys.path  # nothing was found there
    assert METRICS["beside_the_data:share"].__module__ == "beside_the_data"
    assert sys.path[-1] == str(tmp_path)
    import polars

    assert "site-packages" in str(polars.__file__)
    sys.modules.pop("beside_the_data")
