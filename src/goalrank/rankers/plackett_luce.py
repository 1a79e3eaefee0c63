"""Plackett–Luce probabilities of lists."""

from __future__ import annotations

import torch
from torch import Tensor


def log_prob(scores: Tensor, mask: Tensor, lists: Tensor) -> Tensor:
    """Log-probability of lists drawn item by item with probability ∝ exp(score) of the remaining.

    Source: Plackett, 1975; Luce, 1959.

    Args:
        scores: [B, N] logits.
        mask: [B, N] True for real candidates.
        lists: [B, G, L] positions, -1 where the list has ended.

    Returns:
        [B, G].
    """
    scores = scores.masked_fill(~mask, -torch.inf)
    b, g, slots = lists.shape
    at = lists.clamp_min(0)
    real = lists >= 0
    chosen = scores[:, None, :].expand(b, g, -1).gather(2, at)  # [B, G, L]
    # The sum over the remaining candidates is recomputed from masked scores at every step: a
    # difference of sums would cancel digits.
    taken = torch.zeros(b, g, scores.shape[1], dtype=torch.bool, device=scores.device)
    out = torch.zeros(b, g, dtype=scores.dtype, device=scores.device)
    for t in range(slots):
        remaining = scores[:, None, :].masked_fill(taken, -torch.inf)
        step = chosen[..., t] - remaining.logsumexp(-1)
        out = out + torch.where(real[..., t], step, torch.zeros_like(step))
        taken = taken.scatter(
            2, at[..., t : t + 1], real[..., t : t + 1] | taken.gather(2, at[..., t : t + 1])
        )
    return out
