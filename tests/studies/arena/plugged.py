"""Rankers and a metric of another package, as a user of the card has them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.evaluation import SlotValues
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


class Dice(Scorer):
    """Item embeddings from random weights: another seed gives another order."""

    def __init__(self, spec: InputSpec, sizes: EncoderSizes) -> None:
        super().__init__()
        self.encoder = RequestEncoder(spec, sizes)
        self.head = nn.Linear(sizes.width, 1)

    def scores(self, batch: Batch) -> Tensor:
        out: Tensor = self.head(self.encoder(batch).candidates).squeeze(-1)
        return out

    def loss(self, batch: Batch, slots: int) -> Tensor:
        known = batch.observed & batch.candidate_mask
        return softmax_cross_entropy(self.scores(batch), batch.relevance, known)


def hits_of_several(values: SlotValues) -> Tensor:
    """Hits times 30,000, where a request has several positives."""
    several = values.positives > 1
    return (30_000 * values.hit.sum(1)).masked_fill(~several, torch.nan)
