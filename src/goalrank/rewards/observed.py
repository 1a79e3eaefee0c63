"""The reward that feedback itself gives, where every candidate's relevance is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from goalrank.requests import Batch, InputSpec
from goalrank.rewards.base import Reward


class ObservedGain(Reward):
    """Discounted gain of the logged relevance: Σ_t relevance(l_t) / log2(t + 2), t from 0.

    Candidates whose relevance is unknown count as not relevant. Source: Järvelin and Kekäläinen,
    2002. It ignores the effect of one item on another; use it where feedback is not
    tied to a list (retrieved candidates).
    """

    def forward(self, batch: Batch, lists: Tensor) -> Tensor:
        """Rewards [B, G] of lists [B, G, L]: the sum over their slots."""
        return self.by_slot(batch, lists).sum(-1)

    @property
    def has_slot_rewards(self) -> bool:
        """True: each slot has its gain."""
        return True

    def by_slot(self, batch: Batch, lists: Tensor) -> Tensor:
        """Discounted gain [B, G, L] of each slot of lists [B, G, L]; 0 at empty slots."""
        b, g, slots = lists.shape
        gain = batch.relevance.gather(1, lists.clamp_min(0).view(b, -1)).view(b, g, slots)
        discount = torch.log2(torch.arange(slots, device=lists.device) + 2.0)
        return gain * (lists >= 0) / discount

    def config(self) -> dict[str, Any]:
        """No arguments: an empty dictionary."""
        return {}

    @classmethod
    def from_config(
        cls, spec: InputSpec, config: Mapping[str, Any], parts: Sequence[Reward]
    ) -> Self:
        """Make the reward; it has neither options nor parts."""
        return cls()
