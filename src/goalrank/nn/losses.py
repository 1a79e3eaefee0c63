"""Losses on scores."""

from __future__ import annotations

import torch
from torch import Tensor

from goalrank.nn.distributed_means import divisor


def softmax_cross_entropy(scores: Tensor, relevance: Tensor, mask: Tensor) -> Tensor:
    """−Σ y log softmax(s), y normalised to sum one within a request.

    Args:
        scores, relevance: [B, N].
        mask: [B, N] True = takes part.

    Returns:
        Mean over the requests that hold a positive (a scalar; 0 if none does).
        Source: ListNet's top-one loss (Cao et al., 2007); PRM (arXiv 1904.06813), eq. 11.
    """
    log_p = scores.masked_fill(~mask, -torch.inf).log_softmax(-1).masked_fill(~mask, 0.0)
    gain = relevance.clamp_min(0) * mask
    total = gain.sum(-1)
    each = -(gain * log_p).sum(-1) / total.clamp_min(1e-12)
    has = total > 0
    return (each * has).sum() / divisor(has.sum())
