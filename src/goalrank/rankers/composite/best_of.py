"""Generator–evaluator: one or more rankers propose lists, and a reward picks one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from goalrank.errors import ConfigError
from goalrank.rankers.base import Ranker
from goalrank.rankers.composite.pool import Pool, PoolPolicy
from goalrank.requests import Batch

Evaluator = nn.Module  # a reward: (batch, lists [B, G, L]) → [B, G]


class BestOf(PoolPolicy):
    """The list with the highest reward among the rankers' best and sampled lists.

    The pool of a request is fixed by the request and `seed`; see `PoolPolicy`.

    Args:
        rankers: k generators; k = 1 is the plain generator–evaluator.
        evaluator: the reward that picks.
        lists: proposals of all rankers together; each ranker's first is its best list.
        temperature: temperature of the sampled proposals.
        seed: seed of the sampled proposals.
        slots: L of the lists.

    Raises:
        ConfigError: lists is below 1, or the temperature not above 0.
    """

    def __init__(
        self,
        rankers: Sequence[Ranker],
        evaluator: Evaluator,
        lists: int = 100,
        temperature: float = 1.0,
        seed: int = 0,
        slots: int = 6,
    ) -> None:
        super().__init__()
        if lists < 1:
            raise ConfigError(f"lists is {lists}, but there must be at least one; option: lists")
        if not temperature > 0:
            raise ConfigError(
                f"temperature is {temperature}, but must be above 0; remedy: lists = 1 takes the "
                f"ranker's best list alone; option: temperature"
            )
        self.rankers = nn.ModuleList(rankers)
        self.evaluator = evaluator
        self.lists = lists
        self.temperature = temperature
        self.seed = seed
        self.slots = slots

    def pool(self, batch: Batch, slots: int) -> Pool:
        """Propose lists for a batch, with duplicates, and value them."""
        per_ranker = max(self.lists // len(self.rankers), 1)
        parts = []
        for k, module in enumerate(self.rankers):
            ranker = cast(Ranker, module)
            rng = torch.Generator().manual_seed(self.seed + k)
            state = ranker.encode(batch)
            parts.append(ranker.best(state, batch, slots).unsqueeze(1))
            if per_ranker > 1:
                parts.append(
                    ranker.draw(state, batch, per_ranker - 1, slots, rng, self.temperature)
                )
        lists = torch.cat(parts, 1)
        return Pool(lists, self.evaluator(batch, lists))
