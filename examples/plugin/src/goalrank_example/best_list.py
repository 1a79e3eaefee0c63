"""An objective: imitate the best list of each group."""

from __future__ import annotations

import torch
from torch import Tensor


def best_list(
    log_prob: Tensor, rewards: Tensor, valid: Tensor, own: Tensor, temperature: float
) -> Tensor:
    """−log π(l*) of the list l* with the highest reward in the group; the temperature is not used.

    It is GoalRank's objective with a reference policy that is certain of the best list.

    Args:
        log_prob: [B, G] of the lists under the policy.
        rewards: [B, G].
        valid: [B, G] False where a list does not exist.
        own: [B, G] True where the policy drew the list; not used.
        temperature: not used.

    Source: rejection-sampling fine-tuning (RAFT: Dong et al., 2023, arXiv 2304.06767).
    """
    best = rewards.masked_fill(~valid, -torch.inf).argmax(-1, keepdim=True)
    chosen = log_prob.masked_fill(~valid, 0.0).gather(-1, best).squeeze(-1)
    return -chosen.mean()
