"""Groups of lists for each request: the policy's samples and lists from auxiliary sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from goalrank.rankers import Ranker
from goalrank.requests import Batch
from goalrank.training.groups.config import GroupConfig
from goalrank.training.groups.group import SOURCES, Group, repeats
from goalrank.training.groups.sources import (
    heuristic_lists,
    light_lists,
    logged_list,
    perturb,
    random_lists,
)


@dataclass
class GroupBuilder:
    """Builds groups of lists from the policy and from auxiliary sources.

    Attributes:
        config: number of lists per source.
        slots: L.
        light: frozen light models that propose lists.
    """

    config: GroupConfig
    slots: int
    light: Sequence[Ranker] = field(default_factory=tuple)

    def __call__(self, policy: Ranker, state: Any, batch: Batch, rng: torch.Generator) -> Group:
        """Build a group for every request of the batch; call without gradients.

        Args:
            policy: the ranker in training.
            state: result of its `encode`.
            batch: the encoded requests.
            rng: generator of every draw.
        """
        c, slots = self.config, self.slots
        parts: list[tuple[str, Tensor]] = []
        if c.own:
            own = policy.draw(state, batch, c.own, slots, rng, c.temperature)
            parts.append(("own", own))
            if c.perturbed:
                base = own[:, torch.arange(c.perturbed) % c.own]
                parts.append(("perturbed", perturb(base, batch, rng)))
        if c.light and self.light:
            parts.append(("light", light_lists(self.light, batch, c.light, slots, rng)))
        if c.heuristic:
            parts.append(("heuristic", heuristic_lists(batch, c.heuristic, slots, rng)))
        if c.logged:
            parts.append(("logged", logged_list(batch, slots)))
        if c.random:
            parts.append(("random", random_lists(batch, c.random, slots, rng)))
        lists = torch.cat([part for _, part in parts], 1)
        source = [SOURCES.index(name) for name, part in parts for _ in range(part.shape[1])]
        valid = (lists[..., 0] >= 0) & ~repeats(lists)
        return Group(lists, valid, torch.tensor(source, device=lists.device))
