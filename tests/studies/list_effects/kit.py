"""Small worlds with and without list effects, and a study small enough for a test.

Six items and lists of four at random: the same items are shown in many orders.
"""

from __future__ import annotations

from typing import Any

from goalrank.requests import Requests
from goalrank.studies.list_effects import ListEffectsConfig
from goalrank.training import build_config
from goalrank.worlds import LoggingConfig, World, WorldConfig

_RANDOM = LoggingConfig(random=1.0, pointwise=0.0, popular=0.0, shuffle=0.0)
_RECIPE: dict[str, Any] = {
    "encoder": {"tree_folds": 0, "history": 1},
    "ranker": {"width": 16, "heads": 2},
    "reward": {"width": 16, "heads": 2, "dropout": 0.0},
}


def tables(fatigue: float, *, train: int = 6000, test: int = 5000) -> dict[str, Requests]:
    """Requests of a world whose slots are seen by position; fatigue 0 leaves no list effects."""
    world = World(
        WorldConfig(
            seed=5, users=50, items=6, clusters=2, dim=4, spread=0.3, tastes=1, bias=0.5, scale=1.0,
            candidates=6, slots=4, examination="position", decay=0.8, fatigue=fatigue, history=1,
            logging=_RANDOM,
        )
    )  # fmt: skip
    sizes = {"train": (train, 1), "validation": (max(train // 8, 10), 2), "test": (test, 3)}
    return {part: world.sample(n, seed=seed) for part, (n, seed) in sizes.items()}


def study(seeds: tuple[int, ...], steps: int = 500, **changes: Any) -> ListEffectsConfig:
    """A study of tiny models."""
    every = max(steps // 7, 1)
    loop = {"steps": steps, "batch_size": 128, "lr": 3e-3, "validate_every": every, "warmup": 10}
    reward = _RECIPE["reward"] | {"loop": loop}
    recipe = build_config(_RECIPE | {"reward": reward})
    given: dict[str, Any] = {"seeds": seeds, "fit": recipe, "bootstrap": 300}
    return ListEffectsConfig(**(given | changes))
