"""Objectives of a list policy on a group with rewards: pure functions on tensors.

All share one signature, so that the effects of the objective and of the architecture can be
separated. Functions of other packages are objectives as well, by the name of an entry point or as
"package.module:function".
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from goalrank.registry import Registry
from goalrank.training.objectives.reference_policy import (
    group_cross_entropy,
    group_statistics,
    rank_policy,
    reference_policy,
)


class Objective(Protocol):
    """Loss of a policy on groups of lists.

    One that is right on the policy's own samples alone has an attribute `on_policy = True`: it is
    then never given slot groups (`objective.slot_group_share`).
    """

    def __call__(
        self, log_prob: Tensor, rewards: Tensor, valid: Tensor, own: Tensor, temperature: float, /
    ) -> Tensor:
        """The loss, a scalar.

        Args:
            log_prob: [B, G] of each list under the policy; gradients flow through it.
            rewards: [B, G] of each list.
            valid: [B, G] False where a list does not exist or is in the group already; what the
                other arguments hold there must not matter.
            own: [B, G] True for samples of the policy.
            temperature: τ, above 0.
        """


def is_on_policy(objective: Objective) -> bool:
    """Whether an objective learns from the policy's own samples alone."""
    return bool(getattr(objective, "on_policy", False))


def group_relative(
    log_prob: Tensor, rewards: Tensor, valid: Tensor, own: Tensor, temperature: float
) -> Tensor:
    """GoalRank, eq. 5 with the reference policy of eq. 4, by the population deviation."""
    reference = reference_policy(rewards, valid, temperature=temperature)
    return group_cross_entropy(log_prob, reference, valid)


def group_relative_sample(
    log_prob: Tensor, rewards: Tensor, valid: Tensor, own: Tensor, temperature: float
) -> Tensor:
    """GoalRank, eq. 5 with the reference policy of eq. 4, by the sample deviation as the authors'."""
    reference = reference_policy(rewards, valid, temperature=temperature, scale="sample")
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


reinforce.on_policy = True  # type: ignore[attr-defined]


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


OBJECTIVES: Registry[Objective] = Registry(
    "objective",
    "goalrank.objectives",
    {
        name: f"{__name__}:{name}"
        for name in (
            "group_ranks",
            "group_relative",
            "group_relative_sample",
            "group_softmax",
            "preference",
            "reinforce",
        )
    },
    option="objective.name",
)


def policy_entropy(probability: Tensor) -> Tensor:
    """Compute the entropy [B] in nats of probabilities [B, G]; 0 · log 0 counts as 0."""
    out: Tensor = -torch.special.xlogy(probability, probability).sum(-1)
    return out
