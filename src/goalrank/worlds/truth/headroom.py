"""Headroom of a world: the share of the near-optimum that baselines reach."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from goalrank.errors import ConfigError
from goalrank.worlds.sampling.logging_policies import LoggingPolicy, gumbel_top_k
from goalrank.worlds.sampling.request_draws import DrawnRequests, draw_requests
from goalrank.worlds.truth.measures import Measures, measure
from goalrank.worlds.truth.search import near_optimum
from goalrank.worlds.world.response_model import ResponseModel
from goalrank.worlds.world.world import EPOCH_US, PlantedWorld


@dataclass(frozen=True)
class Description:
    """True reward of baselines in one world.

    Attributes:
        name: of the world.
        rows: name → `Measures`: the baselines, then the near-optimum itself.
        gap: mean certified gap of the near-optimum (its upper bound minus its value).
    """

    name: str
    rows: dict[str, Measures]
    gap: float

    def __str__(self) -> str:
        head = f"{'world ' + self.name:24s} {'reward':>8s} {'± s.e.':>8s} {'of best':>8s} {'exact':>7s}"
        lines = [
            f"{name:24s} {m.reward:8.3f} {m.standard_error:8.3f} {m.share_of_best:8.1%} "
            f"{m.share_exact:7.1%}"
            for name, m in self.rows.items()
        ]
        return "\n".join([head, *lines, f"certified gap of the near-optimum: {self.gap:.3f}"])


def pointwise_lists(scene: ResponseModel, slots: int) -> Tensor:
    """Candidates sorted by what each is worth alone in the first slot: [B, L].

    The best that a scorer blind to the rest of the list can do.
    """
    alone = scene.gains(scene.start())[0][:, 0]
    return alone.masked_fill(~scene.mask, -torch.inf).topk(slots, dim=1).indices


def _baselines(
    world: PlantedWorld, asked: DrawnRequests, scene: ResponseModel, seed: int
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    slots = world.config.slots
    return {
        "random": gumbel_top_k(torch.zeros_like(asked.scores), slots, generator),
        "logging policy": LoggingPolicy(world.config.logging)(world, asked, generator)[0],
        "retriever's order": asked.scores.topk(slots, dim=1).indices,
        "true pointwise sort": pointwise_lists(scene, slots),
    }


def describe(
    world: PlantedWorld, requests: int = 512, *, seed: int = 0, beam: int = 128
) -> Description:
    """Judge random, logging, retriever's and true pointwise order against the near-optimum.

    Args:
        world: any world.
        requests: B fresh requests to judge on.
        seed: of the requests and of the random baselines.
        beam: width of the near-optimum's search.

    Raises:
        ConfigError: ``requests`` below 1.
    """
    if requests < 1:
        raise ConfigError(f"requests={requests} must be at least 1")
    generator = torch.Generator().manual_seed(seed)
    asked = draw_requests(world, 0, requests, EPOCH_US, generator)
    scene = world.scene(asked.users, asked.items, asked.days)
    best = near_optimum(world, asked.users, asked.items, asked.days, beam=beam)
    ranked = _baselines(world, asked, scene, seed) | {"near-optimum": best.lists}
    rows = {
        name: measure(scene.reward(lists[:, None, :]).squeeze(1), best.value)
        for name, lists in ranked.items()
    }
    return Description(world.config.name, rows, float(best.gap.mean()))
