"""The group-relative reference policy and the losses made from it: pure functions on tensors."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Scale = Literal["group", "sample", "none"]


class GroupStatistics(NamedTuple):
    """Statistics of the rewards of each group, [B] each.

    Attributes:
        mean, std: of the rewards of valid lists.
        degenerate: True where all rewards tie: the group says nothing about an order, and its uniform
            reference pulls its lists to equal probabilities.
    """

    mean: Tensor
    std: Tensor
    degenerate: Tensor


def group_statistics(rewards: Tensor, valid: Tensor) -> GroupStatistics:
    """Compute mean and (population) standard deviation within groups.

    Args:
        rewards: [B, G].
        valid: [B, G] True = takes part.
    """
    count = valid.sum(-1).clamp_min(1)
    clean = rewards.masked_fill(~valid, 0.0)
    mean = clean.sum(-1) / count
    centred = (clean - mean[:, None]).masked_fill(~valid, 0.0)
    value_range = clean.masked_fill(~valid, -torch.inf).amax(-1) - clean.masked_fill(
        ~valid, torch.inf
    ).amin(-1)
    # Squares of very small or large rewards leave float32's range, so they are scaled first.
    unit = value_range.clamp_min(torch.finfo(rewards.dtype).tiny)
    std = ((centred / unit[:, None]).square().sum(-1) / count).sqrt() * unit
    # A tie in floating point: differences are lost in the rounding of the rewards themselves.
    tiny = 8 * torch.finfo(rewards.dtype).eps * clean.abs().amax(-1)
    return GroupStatistics(mean, std, (value_range <= tiny) | (valid.sum(-1) < 2))


def reference_policy(
    rewards: Tensor, valid: Tensor, *, temperature: float = 1.0, scale: Scale = "group"
) -> Tensor:
    """π_ref(l|B) = softmax over l in B of (r̂(l) − mean_B) / (std_B · temperature).

    Groups whose rewards all tie get the uniform policy, groups without a valid list zeros.

    Args:
        rewards: [B, G].
        valid: [B, G] True = in the group.
        temperature: τ > 0.
        scale: "group" divides by the population standard deviation of the group, "sample" by the
            sample one, as the authors' code does (the paper says "standard deviation"), "none" by
            nothing. With n lists, "sample" is "group" at a temperature higher by sqrt(n / (n − 1)):
            1.41 for two lists, 1.026 for twenty.

    Returns:
        [B, G], sums to one over each group's valid lists. Source: GoalRank, eq. 4.
    """
    statistics = group_statistics(rewards, valid)
    centred = rewards - statistics.mean[:, None]
    if scale != "none":
        std = torch.where(statistics.degenerate, torch.ones_like(statistics.std), statistics.std)
        if scale == "sample":
            count = valid.sum(-1).clamp_min(2)
            std = std * (count / (count - 1)).sqrt()
        centred = centred / std[:, None]
    centred = torch.where(statistics.degenerate[:, None], torch.zeros_like(centred), centred)
    logits = (centred / temperature).masked_fill(~valid, -torch.inf)
    return logits.softmax(-1).masked_fill(~valid, 0.0)


def rank_policy(rewards: Tensor, valid: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Reference policy from ranks alone: the rewards' sizes do not matter, ties share a rank.

    Ranks are evenly spaced in a group and standardised as in `reference_policy`.
    """
    below = (rewards[:, None, :] < rewards[:, :, None]) & valid[:, None, :]
    equal = (rewards[:, None, :] == rewards[:, :, None]) & valid[:, None, :]
    rank = below.sum(-1) + 0.5 * (equal.sum(-1) - 1)
    return reference_policy(rank.to(rewards.dtype), valid, temperature=temperature)


def group_cross_entropy(log_prob: Tensor, reference: Tensor, valid: Tensor) -> Tensor:
    """L = − Σ_{l∈B} π_ref(l|B) · log π_θ(l|u, C), averaged over requests.

    Args:
        log_prob: [B, G] log π_θ; may be -inf where not valid.
        reference: [B, G] π_ref, 0 where not valid.
        valid: [B, G].

    Source: GoalRank, eq. 5.
    """
    return -(reference * log_prob.masked_fill(~valid, 0.0)).sum(-1).mean()
