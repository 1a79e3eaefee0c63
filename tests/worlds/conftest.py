from __future__ import annotations

from typing import Any

import pytest
import torch

from goalrank.worlds import KindConfig, World, WorldConfig

RICH: dict[str, Any] = {
    "users": 30,
    "items": 40,
    "clusters": 5,
    "dim": 5,
    "tastes": 2,
    "candidates": 6,
    "slots": 3,
    "fatigue": 0.6,
    "complementarity": 0.8,
    "continue_click": 0.6,
    "noise": 0.7,
    "kinds": (KindConfig(weight=0.3), KindConfig(name="long_view", bias=-0.5, scale=2.0)),
    "history": 4,
}


def rich(**changes: Any) -> WorldConfig:
    """A small world in which every effect is switched on."""
    return WorldConfig(**(RICH | changes))


def requests_of(world: World, count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random users [B] and distinct candidates [B, N]."""
    generator = torch.Generator().manual_seed(seed)
    users = torch.randint(world.config.users, (count,), generator=generator)
    keys = torch.rand(count, world.config.items, generator=generator)
    return users, keys.argsort(dim=1)[:, : world.config.candidates]


@pytest.fixture
def world() -> World:
    return World(rich())
