"""The recipe of a challenger: the one given, or the champion's as it was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goalrank.api.model import recipe_source
from goalrank.api.retraining.settings import RetrainSettings
from goalrank.errors import ConfigError
from goalrank.models import Version
from goalrank.settings import checked, merge, old_names_accepted
from goalrank.training import FitConfig, build_config, load_config


def choose_recipe(
    config: FitConfig | str | Path | None, settings: RetrainSettings, champion: Version | None
) -> tuple[FitConfig, list[str]]:
    """The recipe given, or the champion's, or the default one, with the settings' recipe over it.

    The champion's is taken as it was given, from its record: its bundle holds what followed from
    its data, and these are other data.

    Args:
        config: the recipe given; None takes the champion's, or the default one without a champion.
        settings: of the retraining; their `recipe` is laid over it.
        champion: the version that serves.

    Returns:
        The recipe, and sentences about where it is from.

    Raises:
        ConfigError: a setting that cannot be used, also one of the champion's that this goalrank has
            no more; or a champion without a recipe.
    """
    said: list[str] = []
    if config is None and champion is not None:
        base, said = _recipe_of(champion)
    else:
        base = load_config(recipe_source(config))
    return build_config(merge(base.model_dump(mode="json"), settings.recipe)), said


def _recipe_of(version: Version) -> tuple[FitConfig, list[str]]:
    """A version's recipe as it was given, or as its bundle holds it, which is said."""
    given = version.record.recipe
    kept = given or version.manifest()["train"].get("recipe")
    if not kept:
        raise ConfigError(
            f"version {version.number} was added as a bundle that does not hold the recipe it was "
            f"trained by; remedy: name one; option: config"
        )
    found = _of_today(kept, version, "record" if given else "bundle")
    return found, [] if given else [
        f"the recipe is that of version {version.number}'s bundle, whose steps and other settings "
        f"followed from its own data; --config gives another"
    ]


def _of_today(kept: dict[str, Any], version: Version, where: str) -> FitConfig:
    """A recipe that an earlier goalrank may have written, checked by the settings of this one."""
    what = f"the champion's recipe (from the {where} of version {version.number} in "
    what += f"'{version.folder}')"
    remedy = (
        "the version serves on; train the next one by a recipe of this goalrank, e.g. --config "
        "default; option: config"
    )
    with old_names_accepted():
        return checked(FitConfig, kept, what, remedy)
