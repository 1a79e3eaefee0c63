"""Losses of scores."""

from __future__ import annotations

import torch
from torch import Tensor

from goalrank.nn.distributed_means import divisor


def softmax_cross_entropy(scores: Tensor, relevance: Tensor, mask: Tensor) -> Tensor:
    """Softmax cross-entropy −Σ y log softmax(s), with y normalised to sum 1 within a request.

    Source: ListNet's top-one loss (Cao et al., 2007); PRM (arXiv 1904.06813), eq. 11.

    Args:
        scores: [B, N] logits s.
        relevance: [B, N] labels y; values below 0 count as 0.
        mask: [B, N] True for candidates that take part.

    Returns:
        Scalar mean over the requests with a positive; 0 if there is none.
    """
    log_p = scores.masked_fill(~mask, -torch.inf).log_softmax(-1).masked_fill(~mask, 0.0)
    gain = relevance.clamp_min(0) * mask
    total = gain.sum(-1)
    each = -(gain * log_p).sum(-1) / total.clamp_min(1e-12)
    has = total > 0
    return (each * has).sum() / divisor(has.sum())
