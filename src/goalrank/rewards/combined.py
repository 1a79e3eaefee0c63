"""Rewards made of rewards: the mean of several models, and a weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from goalrank.requests import Batch, InputSpec
from goalrank.rewards.base import Reward, slot_rewards


class Ensemble(Reward):
    """Mean of several reward models minus a multiple of their disagreement.

    A policy trained on one model seeks out its errors; where members disagree, lists are unlike
    those logged, and a pessimistic bound keeps the policy away from them.

    Args:
        members: reward models trained with different seeds.
        pessimism: β ≥ 0 in mean − β · standard deviation.
    """

    def __init__(self, members: Sequence[Reward], pessimism: float = 0.0) -> None:
        super().__init__()
        # Under this name in saved weights; as an attribute it would hide behind the property.
        self._modules["members"] = nn.ModuleList(members)
        self.pessimism = pessimism

    @property
    def members(self) -> Sequence[Reward]:
        """Models whose mean the reward is."""
        return tuple(cast(Sequence[Reward], self._modules["members"]))

    @property
    def parts(self) -> Sequence[Reward]:
        """The members."""
        return self.members

    def forward(self, batch: Batch, lists: Tensor) -> Tensor:
        """Rewards [B, G]: mean of the members minus `pessimism` standard deviations."""
        each = torch.stack([member(batch, lists) for member in self.members])
        mean = each.mean(0)
        if self.pessimism == 0 or len(self.members) == 1:
            return mean
        return mean - self.pessimism * each.std(0)

    @property
    def has_slot_rewards(self) -> bool:
        """Whether `by_slot` works: without pessimism, and where a member has rewards per slot."""
        return self.pessimism == 0 and any(m.has_slot_rewards for m in self.members)

    def by_slot(self, batch: Batch, lists: Tensor) -> Tensor:
        """Mean reward [B, G, L] that the members give to each slot of lists [B, G, L]."""
        if not self.has_slot_rewards:
            return super().by_slot(batch, lists)
        return torch.stack([slot_rewards(m, batch, lists) for m in self.members]).mean(0)

    def config(self) -> dict[str, Any]:
        """Constructor arguments without the members; plain JSON values."""
        return {"pessimism": self.pessimism}

    @classmethod
    def from_config(
        cls, spec: InputSpec, config: Mapping[str, Any], parts: Sequence[Reward]
    ) -> Self:
        """Make an ensemble of rebuilt members."""
        return cls(parts, **config)


class Weighted(Reward):
    """Σ weight · reward, for goals that separate models predict.

    Args:
        rewards: the parts.
        weights: one per part.
    """

    weights: Tensor

    def __init__(self, rewards: Sequence[Reward], weights: Sequence[float]) -> None:
        super().__init__()
        self.rewards = nn.ModuleList(rewards)
        self.register_buffer("weights", torch.tensor(list(weights), dtype=torch.float32))

    @property
    def parts(self) -> Sequence[Reward]:
        """Rewards that are added up."""
        return tuple(cast(Sequence[Reward], self.rewards))

    def forward(self, batch: Batch, lists: Tensor) -> Tensor:
        """Rewards [B, G] of lists [B, G, L]: the weighted sum of the parts."""
        return torch.stack([r(batch, lists) for r in self.parts], -1) @ self.weights

    @property
    def has_slot_rewards(self) -> bool:
        """Whether `by_slot` works: where a part has rewards per slot."""
        return any(part.has_slot_rewards for part in self.parts)

    def by_slot(self, batch: Batch, lists: Tensor) -> Tensor:
        """Weighted reward [B, G, L] of each slot of lists [B, G, L]."""
        if not self.has_slot_rewards:
            return super().by_slot(batch, lists)
        return torch.stack([slot_rewards(r, batch, lists) for r in self.parts], -1) @ self.weights

    def config(self) -> dict[str, Any]:
        """Constructor arguments without the parts; plain JSON values."""
        return {"weights": self.weights.tolist()}

    @classmethod
    def from_config(
        cls, spec: InputSpec, config: Mapping[str, Any], parts: Sequence[Reward]
    ) -> Self:
        """Make a weighted sum of rebuilt parts."""
        return cls(parts, **config)
