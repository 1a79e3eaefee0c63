"""Plackett-Luce probabilities of lists."""

from __future__ import annotations

import torch
from torch import Tensor


def log_prob(scores: Tensor, mask: Tensor, lists: Tensor) -> Tensor:
    """log P(list) when items are drawn one by one with probability ∝ exp(score) of those left.

    Args:
        scores: [B, N].
        mask: [B, N] True = real candidate.
        lists: [B, G, L] positions, -1 where the list has ended.

    Returns:
        [B, G]. Source: Plackett, 1975; Luce, 1959.
    """
    scores = scores.masked_fill(~mask, -torch.inf)
    b, g, slots = lists.shape
    at = lists.clamp_min(0)
    real = lists >= 0
    chosen = scores[:, None, :].expand(b, g, -1).gather(2, at)  # [B, G, L]
    # What is left at step t, in log space: everything less those taken before, recomputed from
    # the masked scores so that no cancellation occurs.
    taken = torch.zeros(b, g, scores.shape[1], dtype=torch.bool, device=scores.device)
    out = torch.zeros(b, g, dtype=scores.dtype, device=scores.device)
    for t in range(slots):
        left = scores[:, None, :].masked_fill(taken, -torch.inf)
        step = chosen[..., t] - left.logsumexp(-1)
        out = out + torch.where(real[..., t], step, torch.zeros_like(step))
        taken = taken.scatter(
            2, at[..., t : t + 1], real[..., t : t + 1] | taken.gather(2, at[..., t : t + 1])
        )
    return out
