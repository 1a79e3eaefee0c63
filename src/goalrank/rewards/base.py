"""The Reward: what a list is worth to a request."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from goalrank.requests import Batch


class Reward(nn.Module):
    """(request, list) → number; higher is better."""

    @abstractmethod
    def forward(self, batch: Batch, lists: Tensor) -> Tensor:
        """Rewards [B, G] of lists [B, G, L] (positions on the N axis, -1 where ended)."""
