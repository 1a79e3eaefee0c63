"""Recipes: strict, with every fault named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from goalrank.errors import ConfigError, RenamedSettingWarning
from goalrank.training import FitConfig, build_config, load_config


def test_an_empty_recipe_is_the_default():
    assert load_config() == FitConfig()
    assert build_config({}) == FitConfig()


def test_recipe_and_overrides(tmp_path: Path):
    recipe = tmp_path / "r.toml"
    recipe.write_text('light = ["dnn"]\n[training]\nlr = 1e-4\nsteps = 7\n[ranker]\nname = "prm"\n')
    config = load_config(
        recipe,
        [
            "training.lr=3e-3",
            "ranker.preset=s",
            "ranker.name='dnn'",
            "reward.causal=false",
            "reward.kinds=['click', 'like']",
            "group.own = 3",
            "seed=5",
        ],
    )
    assert config.light == ("dnn",)
    assert config.training.lr == 3e-3
    assert config.training.steps == 7
    assert (config.ranker.preset, config.ranker.name) == ("s", "dnn")
    assert config.reward.causal is False
    assert config.reward.kinds == ("click", "like")
    assert config.group.own == 3
    assert config.seed == 5
    assert config.encoder == FitConfig().encoder


def test_a_reward_model_is_validated_oftener_on_a_small_log():
    loop = build_config({"reward": {"loop": {"batch_size": 64}}}).reward.loop
    assert [loop.over(n).validate_every for n in (1, 128, 129, 1000, 10**6)] == [1, 1, 2, 8, 200]
    given = loop.model_copy(update={"validate_every": 300})
    assert given.over(1000) == given
    assert FitConfig().training.over(1000).validate_every == 200


def test_every_fault_at_once():
    data = {
        "trainig": {},
        "training": {"lr": -1, "stepz": 4, "batch_size": "many"},
        "objective": {"name": "magic"},
        "ranker": {"width": 30, "heads": 4},
        "group": {"logged": 2},
    }
    with pytest.raises(ConfigError) as caught:
        build_config(data)
    message = str(caught.value)
    for part in (
        "trainig", "training.lr = -1", "training.stepz", "training.batch_size = 'many'",
        "objective.name = 'magic'", "width 30", "group.logged = 2", "remedy", "--set",
    ):  # fmt: skip
        assert part in message, part
    assert message.startswith("7 setting(s)")


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["training.lr"], "NAME=VALUE"),
        (["=3"], "NAME=VALUE"),
        (["seed.deep=1", "seed.deep.er=1"], "not a section"),
        (["training.unknown=1"], "training.unknown"),
        (["training.steps=1.5"], "training.steps"),
        (["training.lr=fast"], "training.lr = 'fast'"),
        (["group.own=0", "group.light=0", "group.heuristic=0", "group.logged=0", "group.random=0"],
         "group"),
    ],
)  # fmt: skip
def test_bad_overrides(overrides, part):
    with pytest.raises(ConfigError, match=part):
        load_config(overrides=overrides)


def test_bad_files(tmp_path: Path):
    with pytest.raises(ConfigError, match="--config"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="--config"):
        load_config(tmp_path)
    bad = tmp_path / "bad.toml"
    bad.write_text("a = = 1")
    with pytest.raises(ConfigError, match="not TOML"):
        load_config(bad)
    bad.write_bytes(b"a = '\xff\xfe'")
    with pytest.raises(ConfigError, match="not TOML"):
        load_config(bad)


def test_the_old_name_of_the_slot_group_share_works_in_files_and_overrides(tmp_path: Path):
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text("[objective]\nslots = 0.25\n")
    new.write_text("[objective]\nslot_group_share = 0.25\n")
    with pytest.warns(RenamedSettingWarning, match=r"old\.toml.*objective\.slot_group_share"):
        assert load_config(old) == load_config(new)
    with pytest.warns(RenamedSettingWarning, match=r"override 'objective\.slots=0\.75'"):
        overridden = load_config(new, ["objective.slots=0.75"])
    assert overridden.objective.slot_group_share == 0.75
    with pytest.raises(ConfigError, match=r"objective\.slots = 0\.1 and"):
        build_config({"objective": {"slots": 0.1, "slot_group_share": 0.2}})
