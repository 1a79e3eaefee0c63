"""Telemetry of groups: figures that show whether a policy can learn from a group."""

from __future__ import annotations

import torch
from torch import Tensor

from goalrank.training.groups.group import SOURCES, Group
from goalrank.training.objectives.group_objectives import policy_entropy
from goalrank.training.objectives.reference_policy import group_statistics, reference_policy


def group_telemetry(
    group: Group, rewards: Tensor, log_prob: Tensor, temperature: float
) -> dict[str, Tensor]:
    """Summarise a batch of groups: reward spread and gaps, entropies, source of the best list.

    Args:
        group: lists of the batch.
        rewards: [B, G].
        log_prob: [B, G] under the policy.
        temperature: of the reference policy.
    """
    valid = group.valid
    statistics = group_statistics(rewards, valid)
    reference = reference_policy(rewards, valid, temperature=temperature)
    smallest, median = reward_gaps(rewards, valid)
    policy = log_prob.masked_fill(~valid, -torch.inf).softmax(-1)
    best = rewards.masked_fill(~valid, -torch.inf).argmax(-1)
    source = group.source[best]
    out = {
        "reward_mean": statistics.mean.mean(),
        "reward_std": statistics.std.mean(),
        "gap_smallest": smallest.nanmean(),
        "gap_median": median.nanmean(),
        "zero_variance": statistics.degenerate.float().mean(),
        "valid_lists": valid.float().sum(-1).mean(),
        "entropy_reference": policy_entropy(reference).mean(),
        "entropy_policy": policy_entropy(policy).mean(),
    }
    for i in group.source.unique().tolist():
        out[f"best_from/{SOURCES[i]}"] = (source == i).float().mean()
    return out


def reward_gaps(rewards: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the smallest and median gap [B] of adjacent rewards in a group; NaN with one list."""
    ordered = rewards.masked_fill(~valid, torch.nan).sort(-1).values  # NaN last
    gaps = ordered.diff(dim=-1)
    smallest = torch.where(gaps.isnan(), torch.inf, gaps).amin(-1)
    return smallest.masked_fill(smallest == torch.inf, torch.nan), gaps.nanmedian(-1).values
