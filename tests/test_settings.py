"""A TOML file may extend another: what is laid over what, and which chains are refused."""

from pathlib import Path

import pytest

from goalrank.errors import ConfigError
from goalrank.settings import read_toml


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
