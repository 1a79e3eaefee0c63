"""Rewards made of rewards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from goalrank.requests import Batch
from goalrank.rewards.base import Reward


class Ensemble(Reward):
    """Mean of several reward models, less a share of their disagreement.

    A policy taught by one model seeks out its errors; where members disagree, lists are unlike
    those logged, and a pessimistic bound keeps the policy from them.

    Args:
        members: reward models trained with different seeds.
        pessimism: β ≥ 0 in mean − β · standard deviation.
    """

    def __init__(self, members: Sequence[Reward], pessimism: float = 0.0) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.pessimism = pessimism

    def forward(self, batch: Batch, lists: Tensor) -> Tensor:
        each = torch.stack([member(batch, lists) for member in self.members])
        mean = each.mean(0)
        if self.pessimism == 0 or len(self.members) == 1:
            return mean
        return mean - self.pessimism * each.std(0)


class Weighted(Reward):
    """Σ weight · reward, for goals that separate models predict."""

    weights: Tensor

    def __init__(self, rewards: Sequence[Reward], weights: Sequence[float]) -> None:
        super().__init__()
        self.rewards = nn.ModuleList(rewards)
        self.register_buffer("weights", torch.tensor(list(weights), dtype=torch.float32))

    def forward(self, batch: Batch, lists: Tensor) -> Tensor:
        return torch.stack([r(batch, lists) for r in self.rewards], -1) @ self.weights
