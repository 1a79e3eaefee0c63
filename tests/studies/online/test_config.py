"""Faults of a test's settings are told with their place and the nearest name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from goalrank.errors import ConfigError
from goalrank.studies.online import build_online, load_online
from goalrank.studies.online.config import policy_names
from tests.studies.online.kit import SMOKE, smoke


def _data() -> dict[str, Any]:
    data = tomllib.loads(SMOKE.read_text(encoding="utf-8"))
    return data | {"world": SMOKE.parent / data["world"]}


def test_shipped_files_can_be_read():
    for path in sorted(Path(SMOKE.parent).glob("*.toml")):
        config = load_online(path)
        assert config.world_config().requests_per_day == config.requests
    real = load_online(SMOKE.with_name("drift.toml"))
    assert real.days == 14
    assert {arm.policy for arm in real.arms} >= {"goalrank", "mg_e", "hybrid", "prm"}
    assert real.fit_config(real.world_config()).reward.weights == (1.0, 0.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dayz": 3}, ["dayz", "did you mean 'days'?"]),
        ({"daily": {"rewards": 3}}, ["daily.rewards", "did you mean 'reward'?"]),
        ({"settings": {"userz": 3}}, ["settings.userz", "did you mean 'users'?"]),
        ({"recipe": {"lightloop": {}}}, ["recipe.lightloop", "did you mean 'light_loop'?"]),
        ({"recipe": {"reward": {"widht": 8}}}, ["recipe.reward.widht", "'width'?"]),
        ({"control": "mg_a"}, ["control 'mg_a'", "did you mean 'mg_e'?"]),
        ({"seeds": [1, 1]}, ["seeds [1, 1]"]),
        ({"explore": 1.5}, ["explore", "1.5"]),
        ({"settings": {"users": 0}}, ["users"]),
    ],
)
def test_faults_are_named(change, words):
    with pytest.raises(ConfigError) as found:
        build_online(_data() | change)
    for word in words:
        assert word in str(found.value)


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ({"policy": "goalrnk"}, ["arms.0.policy", "did you mean 'goalrank'?"]),
        ({"policy": "lambdamart"}, ["lambdamart"]),
        ({"polcy": "prm"}, ["arms.0.polcy", "did you mean 'policy'?"]),
        ({"policy": "prm", "share": 1.0}, ["arms.0.share"]),
        ({"name": "prm", "policy": "prm"}, ["share a name"]),
    ],
)
def test_faults_of_arms_are_named(arm, words):
    data = _data()
    data["arms"] = [{"name": "mg_e", "policy": "mg_e"} | arm, *data["arms"][1:]]
    with pytest.raises(ConfigError) as found:
        build_online(data)
    for word in words:
        assert word in str(found.value)


def test_every_file_fault_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_online(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("name =")
    with pytest.raises(ConfigError, match="not TOML"):
        load_online(tmp_path / "bad.toml")


def test_policies_and_what_they_need():
    assert {"goalrank", "prm", "dnn", "hybrid", "oracle"} <= set(policy_names())
    config = smoke()
    needs = {arm.name: config.needs(arm) for arm in config.arms}
    assert needs["prm"] == ("prm",)
    assert needs["goalrank"] == ("prm", "reward", "goalrank")
    assert set(needs["hybrid"]) == set(needs["goalrank"]) | set(needs["mg_e"])
    assert needs["logging"] == needs["oracle"] == ()
