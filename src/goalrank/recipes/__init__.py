"""Recipes that come with the package: one TOML file per training job."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from goalrank.errors import ConfigError
from goalrank.settings import read_toml
from goalrank.storage import local_path

__all__ = ["DEFAULT", "default_recipe", "recipe_names", "recipe_path"]

DEFAULT = "default"
_HOME = Path(__file__).parent


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in _HOME.glob("*.toml"))


def default_recipe() -> dict[str, Any]:
    """The recipe of `goalrank train` without a configuration, as nested dictionaries."""
    return read_toml(_HOME / f"{DEFAULT}.toml", "recipe", "install goalrank again")


def recipe_path(name: str | Path) -> Path:
    """The file of a recipe: a path is taken as it is, a bare name is one of the shipped.

    Raises:
        ConfigError: neither a file nor a shipped recipe; the nearest is suggested.
    """
    path = local_path(name, "config")
    if path.is_file():
        return path
    shipped = _HOME / f"{path.name}.toml"
    if path.name == str(name) and shipped.is_file():
        return shipped
    near = difflib.get_close_matches(path.stem, recipe_names(), 1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise ConfigError(
        f"recipe '{name}' is neither a file nor one of the shipped recipes "
        f"({', '.join(recipe_names())}){hint} Option: --config"
    )
