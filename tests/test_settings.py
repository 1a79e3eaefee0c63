"""TOML files that extend others, and settings that were renamed."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import BaseModel, ConfigDict

from goalrank.errors import ConfigError, RenamedSettingWarning
from goalrank.settings import checked, read_toml


def _read(path: Path) -> dict[str, object]:
    return read_toml(path, "suite", "name a TOML file")


def test_own_settings_are_laid_over_the_extended_ones(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        'name = "base"\nseeds = [0, 1, 2]\n[recipe]\nslots = 6\n[recipe.loop]\nsteps = 10\nlr = 0.1\n'
    )
    folder = tmp_path / "deeper"
    folder.mkdir()
    (folder / "middle.toml").write_text(
        'extends = "../base.toml"\nseeds = [7]\n[recipe.loop]\nsteps = 20\n'
    )
    top = tmp_path / "top.toml"
    top.write_text('extends = "deeper/middle.toml"\nname = "top"\n')
    assert _read(top) == {
        "name": "top",
        "seeds": [7],
        "recipe": {"slots": 6, "loop": {"steps": 20, "lr": 0.1}},
    }


def test_a_chain_that_comes_back_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('extends = "b.toml"\n')
    (tmp_path / "b.toml").write_text('extends = "./a.toml"\n')
    with pytest.raises(ConfigError, match=r"a\.toml' extends itself; remedy"):
        _read(tmp_path / "a.toml")


def test_one_base_may_be_reached_from_two_files(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("seed = 1\n")
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text('extends = "base.toml"\n')
        assert _read(tmp_path / f"{name}.toml") == {"seed": 1}


@pytest.mark.parametrize(
    ("value", "said"),
    [('"none.toml"', r"none\.toml' does not exist.*a\.toml.*extends"), ("3", "is not a file's")],
)
def test_what_cannot_be_extended_is_said(tmp_path: Path, value: str, said: str) -> None:
    (tmp_path / "a.toml").write_text(f"extends = {value}\n")
    with pytest.raises(ConfigError, match=said):
        _read(tmp_path / "a.toml")


class _Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    renamed: ClassVar[Mapping[str, str]] = {"old": "new"}

    new: int = 0


class _Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inner: _Inner = _Inner()
    maybe: _Inner | None = None


@pytest.mark.parametrize("section", ["inner", "maybe"])
def test_the_old_name_of_a_setting_works_and_warns(section: str) -> None:
    data = {section: {"old": 3}}
    with pytest.warns(RenamedSettingWarning, match=rf"recipe sets {section}\.old.*{section}\.new"):
        found = getattr(checked(_Outer, data, "the recipe", "correct it"), section)
    assert found == _Inner(new=3)
    assert data == {section: {"old": 3}}


def test_the_new_name_of_a_setting_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checked(_Outer, {"inner": {"new": 3}}, "the recipe", "correct it").inner.new == 3


def test_both_names_of_a_setting_are_refused() -> None:
    both = {"inner": {"old": 3, "new": 4}}
    with pytest.raises(ConfigError, match=r"inner\.old = 3 and inner\.new = 4.*remedy"):
        checked(_Outer, both, "the recipe", "correct it")


def test_a_fault_under_the_old_name_is_reported_under_the_new_one() -> None:
    wrong = {"inner": {"old": "many"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RenamedSettingWarning)
        with pytest.raises(ConfigError, match=r"recipe\.inner\.new = 'many'"):
            checked(_Outer, wrong, "the suite", "correct it", prefix="recipe.")
