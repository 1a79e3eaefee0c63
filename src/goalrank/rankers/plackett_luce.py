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
    b, g, slots = lists.shape
    n = scores.shape[1]
    real = lists >= 0
    scores = scores.masked_fill(~mask, -torch.inf).unsqueeze(1).expand(b, g, n)
    chosen = scores.gather(2, lists.clamp_min(0))
    # Those that remain at a slot: candidates outside the list, and those of this slot and later
    # ones. Summing both anew loses no digits, as subtracting those already placed would.
    listed = torch.zeros(b, g, n + 1, dtype=torch.bool, device=scores.device)
    listed = listed.scatter(2, lists.masked_fill(~real, n), True)[..., :n]
    outside = scores.masked_fill(listed, -torch.inf).logsumexp(-1)
    earlier = torch.ones(slots, slots, dtype=torch.bool, device=scores.device).tril(-1)
    inside = chosen.unsqueeze(2).masked_fill(earlier | ~real.unsqueeze(2), -torch.inf)
    outside = outside[..., None, None].expand(b, g, slots, 1)
    remaining = torch.cat([outside, inside], -1).logsumexp(-1)
    return (chosen - remaining).masked_fill(~real, 0.0).sum(-1)
