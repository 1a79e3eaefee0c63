"""How alike two candidates are, without learning."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from goalrank.requests import Batch


def candidate_likeness(batch: Batch, vectors: Tensor | None = None) -> Tensor:
    """Cosines [B, N, N] between candidates, in [-1, 1]; 1 on the diagonal, 0 where nothing is known.

    Of the item features by default: numbers and category values (each value one dimension)
    together.

    Args:
        vectors: [rows of ids, A] use these instead, by id (a retriever's factors, say).
    """
    n = batch.candidates.shape[1]
    if vectors is not None:
        unit = F.normalize(vectors[batch.items.id_row[batch.candidates]], dim=-1)
        likeness = unit @ unit.transpose(1, 2)
    else:
        numeric = batch.items.numeric[batch.candidates].clamp(-8, 8)
        rows = batch.items.category[batch.candidates]
        weight = batch.items.category_weight[batch.candidates] * (rows > 0)
        product = numeric @ numeric.transpose(1, 2)
        for m in range(rows.shape[-1]):  # columns of categories: few
            equal = rows[:, :, None, m, None] == rows[:, None, :, :]  # [B, N, N, M]
            product = product + (weight[:, :, None, m, None] * weight[:, None] * equal).sum(-1)
        norm = product.diagonal(dim1=1, dim2=2).clamp_min(1e-12).sqrt()
        likeness = product / (norm[:, :, None] * norm[:, None, :])
    same = torch.eye(n, dtype=torch.bool, device=likeness.device)
    return likeness.clamp(-1, 1).masked_fill(same, 1.0)


def standardised(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores [B, N] at mean 0 and deviation 1 over each request's candidates; 0 where padded."""
    real = mask.to(scores.dtype)
    count = real.sum(-1, keepdim=True).clamp_min(1)
    centred = (scores - (scores * real).sum(-1, keepdim=True) / count) * real
    spread = ((centred**2).sum(-1, keepdim=True) / count).sqrt()
    return centred / spread.clamp_min(1e-6)
