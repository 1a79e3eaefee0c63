"""Objectives of a list policy on a group with rewards: pure functions on tensors.

All share one signature, so that the effects of the objective and of the architecture can be
separated: (log_prob [B, G], rewards [B, G], valid [B, G], own [B, G], temperature) → scalar.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from goalrank.training.objectives.reference_policy import (
    group_cross_entropy,
    group_statistics,
    rank_policy,
    reference_policy,
)

Objective = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]


def group_relative(
    log_prob: Tensor, rewards: Tensor, valid: Tensor, own: Tensor, temperature: float
) -> Tensor:
    """GoalRank, eq. 5 with the reference policy of eq. 4."""
    reference = reference_policy(rewards, valid, temperature=temperature)
    return group_cross_entropy(log_prob, reference, valid)


def group_softmax(
    log_prob: Tensor, rewards: Tensor, valid: Tensor, own: Tensor, temperature: float
) -> Tensor:
    """Eq. 5 with plain softmax(r / τ): rewards are not divided by the group's deviation."""
    reference = reference_policy(rewards, valid, temperature=temperature, scale="none")
    return group_cross_entropy(log_prob, reference, valid)


def group_ranks(
    log_prob: Tensor, rewards: Tensor, valid: Tensor, own: Tensor, temperature: float
) -> Tensor:
    """Eq. 5 with a reference policy made of ranks only."""
    reference = rank_policy(rewards, valid, temperature=temperature)
    return group_cross_entropy(log_prob, reference, valid)


def reinforce(
    log_prob: Tensor, rewards: Tensor, valid: Tensor, own: Tensor, temperature: float
) -> Tensor:
    """Policy gradient with advantages standardised in the group, on the policy's own samples.

    Source: REINFORCE (Williams, 1992) with GRPO's advantages (arXiv 2402.03300), one step on
    fresh samples, so that no ratio or clip is needed. The temperature is not used.
    """
    mine = own & valid
    statistics = group_statistics(rewards, mine)
    advantage = (rewards - statistics.mean[:, None]) / (statistics.std[:, None] + 1e-6)
    weight = advantage * mine / mine.sum(-1, keepdim=True).clamp_min(1)
    return -(weight * log_prob.masked_fill(~mine, 0.0)).sum(-1).mean()


def preference(
    log_prob: Tensor, rewards: Tensor, valid: Tensor, own: Tensor, temperature: float
) -> Tensor:
    """Pairwise preference within the group: −log σ(τ (log π(a) − log π(b))) where r(a) > r(b).

    Source: DPO's logistic loss (arXiv 2305.18290) without a reference model.
    """
    clean = log_prob.masked_fill(~valid, 0.0)
    margin = clean[:, :, None] - clean[:, None, :]
    wins = (rewards[:, :, None] > rewards[:, None, :]) & valid[:, :, None] & valid[:, None, :]
    each = F.softplus(-temperature * margin) * wins
    return (each.sum((1, 2)) / wins.sum((1, 2)).clamp_min(1)).mean()


OBJECTIVES: dict[str, Objective] = {
    "group_ranks": group_ranks,
    "group_relative": group_relative,
    "group_softmax": group_softmax,
    "preference": preference,
    "reinforce": reinforce,
}


def policy_entropy(probability: Tensor) -> Tensor:
    """Compute the entropy [B] in nats of probabilities [B, G]; 0 · log 0 counts as 0."""
    out: Tensor = -torch.special.xlogy(probability, probability).sum(-1)
    return out
