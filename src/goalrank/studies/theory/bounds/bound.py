"""Evidence upper bound of KL(π* ‖ π_θ) from groups of lists; docs/theory.md derives it.

For a group B with coverage c = π*(B), a policy with −log π_θ <= Λ everywhere, a reference policy
π_ref = softmax over B of r̂ / s, and the range Δ (largest less smallest) of r*/τ − r̂/s within B::

    KL(π* ‖ π_θ) <= c · (L_B + tanh(Δ/4) · S_B) + (1 − c) · Λ − H(π*)

L_B is the loss of eq. 5 and S_B the range of −log π_θ within B. If |b| <= β then
Δ <= |1/τ − 1/s| · range of r̂ in B + 2β/τ, which needs no knowledge of r*.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from goalrank.studies.theory.population import Population
from goalrank.training import group_statistics, reference_policy

Scale = Literal["group", "none"]


class Group(NamedTuple):
    """Groups of lists, one per request.

    Attributes:
        chosen: [M, G] indices of the P lists.
        valid: [M, G] False for repeated lists.
    """

    chosen: Tensor
    valid: Tensor


class BoundParts(NamedTuple):
    """Both sides of the bound and the terms of the upper side; each is [M], in nats.

    Attributes:
        kl: KL(π* ‖ π_θ), exact.
        bound: the upper side, from β, Λ and the coverage.
        tight: the upper side with the true Δ and the true largest −log π_θ outside the group.
        loss: L_B of eq. 5.
        swap: tanh(Δ/4) · S_B, the cost of using π_ref instead of π* within the group.
        outside: (1 − c) · Λ, the cost of lists outside the group.
        coverage: c in [0, 1].
        delta: the upper bound of Δ.
        true_delta: Δ.
        sharpness: τ / s, where s is the temperature of the reference policy in units of the reward
            (0 for a group of tied rewards).
    """

    kl: Tensor
    bound: Tensor
    tight: Tensor
    loss: Tensor
    swap: Tensor
    outside: Tensor
    coverage: Tensor
    delta: Tensor
    true_delta: Tensor
    sharpness: Tensor


def with_floor(log_prob: Tensor, floor: float) -> Tensor:
    """Mix a policy with the uniform one, so that −log π <= log(P / δ) for every list.

    Args:
        log_prob: [M, P] log π.
        floor: δ in (0, 1), weight of the uniform policy.

    Returns:
        [M, P] log of (1 − δ) π + δ · uniform.
    """
    uniform = torch.full_like(log_prob, math.log(floor) - math.log(log_prob.shape[1]))
    return torch.logaddexp(log_prob + math.log1p(-floor), uniform)


def _range(x: Tensor, valid: Tensor) -> Tensor:
    high = x.masked_fill(~valid, -torch.inf).amax(dim=1)
    return high - x.masked_fill(~valid, torch.inf).amin(dim=1)


def _worst_outside(log_prob: Tensor, group: Group) -> Tensor:
    """Largest −log π_θ of a list outside the group: [M]; 0 if there is none."""
    held = torch.zeros_like(log_prob).scatter_add(1, group.chosen, group.valid.to(log_prob))
    return (-log_prob).masked_fill(held > 0.0, 0.0).amax(dim=1)


def inverse_temperature(rewards: Tensor, valid: Tensor, temperature: float, scale: Scale) -> Tensor:
    """Compute 1 / s of each group's reference policy.

    Args:
        rewards: [M, G].
        valid: [M, G] False for repeated lists.
        temperature: of the reference policy.
        scale: "group" divides by the standard deviation of the group, "none" does not.

    Returns:
        [M]; 0 where all rewards tie.
    """
    statistics = group_statistics(rewards, valid)
    if scale == "none":
        inverse = torch.full_like(statistics.std, 1.0 / temperature)
    else:
        inverse = 1.0 / (statistics.std * temperature).clamp_min(1e-300)
    return torch.where(statistics.degenerate, torch.zeros_like(inverse), inverse)


def evidence_bound(
    population: Population,
    log_prob: Tensor,
    estimate: Tensor,
    group: Group,
    *,
    beta: float,
    floor: float,
    temperature: float,
    scale: Scale,
) -> BoundParts:
    """Compute both sides of the bound for one group per request.

    Args:
        population: the requests with their true rewards.
        log_prob: [M, P] log π_θ of a policy with this ``floor`` (see `with_floor`).
        estimate: [M, P] r̂ of every list.
        group: the groups B.
        beta: β >= max |b|.
        floor: δ in (0, 1), so that Λ = log(P / δ).
        temperature: of the reference policy, as in `goalrank.training.reference_policy`.
        scale: of the reference policy, as there.
    """
    chosen, valid = group
    tau = population.temperature
    r_hat, r_true = estimate.gather(1, chosen), population.reward.gather(1, chosen)
    cost = -log_prob.gather(1, chosen)
    reference = reference_policy(r_hat, valid, temperature=temperature, scale=scale)
    loss = (reference * cost).masked_fill(~valid, 0.0).sum(dim=1)
    mass = population.log_prob.exp().gather(1, chosen).masked_fill(~valid, 0.0)
    coverage = mass.sum(dim=1).clamp(0.0, 1.0)
    inverse = inverse_temperature(r_hat, valid, temperature, scale)
    delta = (1.0 / tau - inverse).abs() * _range(r_hat, valid) + 2.0 * beta / tau
    true_delta = _range(r_true / tau - inverse[:, None] * r_hat, valid)
    width = _range(cost, valid)
    swap = torch.tanh(delta / 4.0) * width
    outside = (1.0 - coverage) * math.log(log_prob.shape[1] / floor)
    tight = coverage * (loss + torch.tanh(true_delta / 4.0) * width)
    tight = tight + (1.0 - coverage) * _worst_outside(log_prob, group)
    return BoundParts(
        kl=(population.log_prob.exp() * (population.log_prob - log_prob)).sum(dim=1),
        bound=coverage * (loss + swap) + outside - population.entropy,
        tight=tight - population.entropy,
        loss=loss,
        swap=swap,
        outside=outside,
        coverage=coverage,
        delta=delta,
        true_delta=true_delta,
        sharpness=tau * inverse,
    )
