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
class WorldHeadroom:
    """True reward of baselines in one world.

    Attributes:
        name: name of the world.
        rows: baseline → `Measures`; the last one is the near-optimum itself.
        gap: mean certified gap of the near-optimum (its upper bound minus its value).
    """

    name: str
    rows: dict[str, Measures]
    gap: float

    def __str__(self) -> str:
        """A table as text, one line per baseline."""
        head = f"{'world ' + self.name:24s} {'reward':>8s} {'± s.e.':>8s} {'of best':>8s} {'exact':>7s}"
        lines = [
            f"{name:24s} {m.reward:8.3f} {m.standard_error:8.3f} {m.share_of_best:8.1%} "
            f"{m.share_exact:7.1%}"
            for name, m in self.rows.items()
        ]
        return "\n".join([head, *lines, f"certified gap of the near-optimum: {self.gap:.3f}"])


def pointwise_lists(model: ResponseModel, slots: int) -> Tensor:
    """Candidates sorted by their true reward alone in the first slot.

    These are the best lists of a scorer that ignores the other slots.

    Args:
        model: response model of B requests.
        slots: L.

    Returns:
        [B, L] positions.
    """
    alone = model.gains(model.empty_prefix())[0][:, 0]
    return alone.masked_fill(~model.mask, -torch.inf).topk(slots, dim=1).indices


def _baseline_lists(
    world: PlantedWorld, drawn: DrawnRequests, model: ResponseModel, seed: int
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    slots = world.config.slots
    return {
        "random": gumbel_top_k(torch.zeros_like(drawn.scores), slots, generator),
        "logging policy": LoggingPolicy(world.config.logging)(world, drawn, generator)[0],
        "retriever's order": drawn.scores.topk(slots, dim=1).indices,
        "true pointwise sort": pointwise_lists(model, slots),
    }


def describe(
    world: PlantedWorld, requests: int = 512, *, seed: int = 0, beam: int = 128
) -> WorldHeadroom:
    """Compare random, logging, retriever and true pointwise order with the near-optimum.

    Args:
        world: any world.
        requests: B requests to draw, at least 1.
        seed: seed of the requests and of the random baselines.
        beam: beam width of the search for the near-optimum.

    Raises:
        ConfigError: ``requests`` below 1.
    """
    if requests < 1:
        raise ConfigError(f"requests={requests} must be at least 1")
    generator = torch.Generator().manual_seed(seed)
    drawn = draw_requests(world, 0, requests, EPOCH_US, generator)
    model = world.response_model(drawn.users, drawn.items, drawn.days)
    best = near_optimum(world, drawn.users, drawn.items, drawn.days, beam=beam)
    baselines = _baseline_lists(world, drawn, model, seed) | {"near-optimum": best.lists}
    rows = {
        name: measure(model.reward(lists[:, None, :]).squeeze(1), best.value)
        for name, lists in baselines.items()
    }
    return WorldHeadroom(world.config.name, rows, float(best.gap.mean()))
