"""A ranker of another package, as a user of the card has one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from goalrank.encoders import Wide
from goalrank.nn import softmax_cross_entropy
from goalrank.rankers import Scorer
from goalrank.requests import Batch, InputSpec


class Scaled(Scorer):
    """Linear scores times a learned scale."""

    def __init__(self, spec: InputSpec, *, scale: float = 1.0) -> None:
        super().__init__()
        self.wide = Wide(spec)
        self.scale = nn.Parameter(torch.tensor(float(scale)))

    def scores(self, batch: Batch) -> Tensor:
        return self.scale * self.wide(batch).squeeze(-1)

    def loss(self, batch: Batch, slots: int) -> Tensor:
        known = batch.observed & batch.candidate_mask
        return softmax_cross_entropy(self.scores(batch), batch.relevance, known)
