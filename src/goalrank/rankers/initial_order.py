"""The initial list: what the retriever (or a first score) puts in which order.

Several rerankers read the initial list in order. The order may depend on scores and items, never
on where a candidate happens to stand in the input.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from goalrank.nn import divisor
from goalrank.requests import Batch


def initial_order(batch: Batch, scores: Tensor) -> Tensor:
    """Positions [B, N] of the candidates from the highest score to the lowest, padding last.

    Ties resolve by item, then by a fixed mixture of the candidate features, so that permuting the
    candidates leaves the list as it is.

    Args:
        scores: [B, N].
    """
    width = batch.candidate_features.shape[-1]
    mixture = torch.sin(torch.arange(1, width + 1, device=scores.device) * 1.7)
    total = (batch.candidate_features * mixture).sum(-1)
    order = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
    first = -scores.detach().masked_fill(~batch.candidate_mask, -torch.inf)
    for key in (total, batch.candidates, first):  # least significant first: the sorts are stable
        order = order.gather(1, key.gather(1, order).argsort(dim=-1, stable=True))
    return order


def known_candidates(batch: Batch) -> Tensor:
    """[B, N] True for real candidates whose relevance is known."""
    return batch.observed & batch.candidate_mask


def pointwise_loss(scores: Tensor, batch: Batch) -> Tensor:
    """Binary cross-entropy of scores [B, N] on the candidates with known feedback; a scalar."""
    known = known_candidates(batch)
    target = batch.relevance.clamp(0, 1)
    each = F.binary_cross_entropy_with_logits(scores, target, reduction="none")
    return (each * known).sum() / divisor(known.sum())
