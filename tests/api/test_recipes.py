"""Every recipe that ships loads and runs: all stages, cut to a few steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from goalrank import fit
from goalrank.api import recipe_names, recipe_path
from goalrank.training import load_config
from tests.tables import make_table

ROOT = Path(__file__).parents[2]
RECIPES = [recipe_path(name) for name in recipe_names()] + sorted((ROOT / "configs").glob("*.toml"))
SHORT = [
    f"{loop}.{name}={value}"
    for loop in ("light_loop", "reward.loop", "training")
    for name, value in (("steps", 2), ("validate_every", 1), ("batch_size", 8))
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_runs(recipe: Path, tmp_path: Path) -> None:
    config = load_config(recipe, SHORT)
    train, validation = make_table(24, seed=1), make_table(8, seed=2)
    model = fit(train, validation, config=config, out=tmp_path / "run", progress=False)
    lists = model.rank(validation)
    assert len(lists) == 8
    assert set(config.light) <= set(model.rankers)
