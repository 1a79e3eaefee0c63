"""The initial list: the candidates in the order of the retriever's score, or of a first score.

Several rerankers read the initial list in order. The order depends on scores and items, not on the
position of a candidate in the input.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from goalrank.nn import divisor
from goalrank.requests import Batch


def initial_order(batch: Batch, scores: Tensor) -> Tensor:
    """Sort the candidates from the highest score to the lowest, padding last.

    Ties are broken by item, then by a fixed mixture of the candidate features, so that permuting
    the candidates does not change the list.

    Args:
        batch: B requests.
        scores: [B, N].

    Returns:
        [B, N] positions.
    """
    width = batch.candidate_features.shape[-1]
    mixture = torch.sin(torch.arange(1, width + 1, device=scores.device) * 1.7)
    total = (batch.candidate_features * mixture).sum(-1)
    order = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
    first = -scores.detach().masked_fill(~batch.candidate_mask, -torch.inf)
    for key in (total, batch.candidates, first):  # least significant first: stable sorts
        order = order.gather(1, key.gather(1, order).argsort(dim=-1, stable=True))
    return order


def known_candidates(batch: Batch) -> Tensor:
    """Whether each candidate is real and its relevance is known: [B, N].

    Args:
        batch: B requests.
    """
    return batch.observed & batch.candidate_mask


def pointwise_loss(scores: Tensor, batch: Batch) -> Tensor:
    """Binary cross-entropy on the candidates with known feedback, a scalar.

    Args:
        scores: [B, N] logits.
        batch: B requests.
    """
    known = known_candidates(batch)
    target = batch.relevance.clamp(0, 1)
    each = F.binary_cross_entropy_with_logits(scores, target, reduction="none")
    return (each * known).sum() / divisor(known.sum())
