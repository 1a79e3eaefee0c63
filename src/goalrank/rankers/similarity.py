"""Similarity of candidates, without learning."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from goalrank.requests import Batch


def candidate_similarity(batch: Batch, vectors: Tensor | None = None) -> Tensor:
    """Cosine similarities between candidates; 1 on the diagonal, 0 where no feature is known.

    By default the cosine of the item features: numbers and category values (one dimension per
    value) together.

    Args:
        batch: B requests.
        vectors: [id rows, A] vectors to use instead of the features, such as a retriever's factors.

    Returns:
        [B, N, N] in [-1, 1].
    """
    n = batch.candidates.shape[1]
    if vectors is not None:
        unit = F.normalize(vectors[batch.items.id_row[batch.candidates]], dim=-1)
        similarity = unit @ unit.transpose(1, 2)
    else:
        numeric = batch.items.numeric[batch.candidates].clamp(-8, 8)
        rows = batch.items.category[batch.candidates]
        weight = batch.items.category_weight[batch.candidates] * (rows > 0)
        product = numeric @ numeric.transpose(1, 2)
        for m in range(rows.shape[-1]):  # columns of categories: few
            equal = rows[:, :, None, m, None] == rows[:, None, :, :]  # [B, N, N, M]
            product = product + (weight[:, :, None, m, None] * weight[:, None] * equal).sum(-1)
        norm = product.diagonal(dim1=1, dim2=2).clamp_min(1e-12).sqrt()
        similarity = product / (norm[:, :, None] * norm[:, None, :])
    same = torch.eye(n, dtype=torch.bool, device=similarity.device)
    return similarity.clamp(-1, 1).masked_fill(same, 1.0)


def standardised(scores: Tensor, mask: Tensor) -> Tensor:
    """Standardise scores to mean 0 and deviation 1 within each request; 0 where padded.

    Args:
        scores: [B, N].
        mask: [B, N] True for real candidates.
    """
    real = mask.to(scores.dtype)
    count = real.sum(-1, keepdim=True).clamp_min(1)
    centred = (scores - (scores * real).sum(-1, keepdim=True) / count) * real
    deviation = ((centred**2).sum(-1, keepdim=True) / count).sqrt()
    return centred / deviation.clamp_min(1e-6)
