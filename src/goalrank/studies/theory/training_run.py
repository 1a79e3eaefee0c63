"""Training the tiny generator by eq. 5 while both sides of the bound are written down."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from goalrank.errors import ConfigError
from goalrank.studies.theory.bound import BoundParts, Group, Scale, evidence_bound, with_floor
from goalrank.studies.theory.families import Single, Sizes
from goalrank.studies.theory.planted_bias import BiasKind, draw_bias
from goalrank.studies.theory.population import Population
from goalrank.training import group_cross_entropy, reference_policy


@dataclass(frozen=True)
class GroupTraining:
    """One training run.

    Attributes:
        own: lists drawn from the policy itself, distinct.
        light: lists drawn from a light model (see `light_policy`), distinct.
        scale, temperature: of the reference policy; "group" is the paper's z-score.
        bias, amplitude: of r̂; |b| <= amplitude = β.
        width, floor: of the generator; δ of its uniform floor.
        steps, rate, every: Adam steps, learning rate, steps between two looks at the bound.
    """

    own: int = 8
    light: int = 8
    scale: Scale = "none"
    temperature: float = 0.1
    bias: BiasKind = "noise"
    amplitude: float = 0.0
    width: int = 16
    floor: float = 0.01
    steps: int = 300
    rate: float = 0.02
    every: int = 10

    def __post_init__(self) -> None:
        if self.own < 0 or self.light < 0 or self.own + self.light < 1:
            raise ConfigError(f"own={self.own} and light={self.light}: a group needs a list")
        if not 0.0 < self.floor < 1.0 or not self.temperature > 0.0:
            raise ConfigError(
                f"floor={self.floor} must lie in (0, 1) and temperature={self.temperature} "
                "be positive"
            )
        if self.bias == "gaussian":
            raise ConfigError(
                "bias='gaussian' has no largest value, so the bound does not apply; "
                "remedy: noise or popularity"
            )


def draw_distinct(log_prob: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Distinct lists drawn one after the other without replacement (Gumbel top-k): [M, count]."""
    noise = torch.rand(log_prob.shape, generator=generator, dtype=torch.float64)
    gumbel = -torch.log(-torch.log(noise.clamp(1e-300, 1.0 - 1e-16)))
    return (log_prob + gumbel).topk(min(count, log_prob.shape[1]), dim=1).indices


def light_policy(population: Population, estimate: Tensor, temperature: float) -> Tensor:
    """log-probabilities [M, P] of a Plackett–Luce policy blind to the rest of the list.

    A candidate is worth the mean of r̂ over the lists that hold it, times L: an additive reading of
    the reward model, as a pointwise scorer would give it.
    """
    tree, slots = population.prefixes, population.lists.shape[1]
    held = torch.zeros(len(population.lists), population.candidates, dtype=torch.float64)
    held.scatter_(1, population.lists, 1.0)
    worth = slots * (estimate @ held) / held.sum(dim=0)
    logit = (worth / temperature)[:, None, :].expand(-1, len(tree.used), -1)
    step = logit.masked_fill(tree.used, -torch.inf).log_softmax(dim=2).flatten(1)
    out: Tensor = step[:, tree.steps.flatten()].unflatten(1, tree.steps.shape).sum(dim=2)
    return out


def make_group(
    own_log_prob: Tensor, light_log_prob: Tensor, run: GroupTraining, generator: torch.Generator
) -> Group:
    """Own and light lists of each request; a light list that is also an own one is not valid."""
    own = draw_distinct(own_log_prob, run.own, generator)
    light = draw_distinct(light_log_prob, run.light, generator)
    fresh = ~(light[:, :, None] == own[:, None, :]).any(dim=2)
    return Group(
        torch.cat([own, light], dim=1), torch.cat([torch.ones_like(own).bool(), fresh], dim=1)
    )


def train(population: Population, run: GroupTraining, *, seed: int) -> dict[str, Any]:
    """Train by eq. 5 and watch the bound.

    Returns:
        the run's settings; ``trace`` (per look: step and the mean over requests of every part of
        `BoundParts`); ``end`` (the same over the last five looks, and ``paid_swap``, the coverage
        times the swap); ``violations`` (requests and looks where a bound fell below the KL by more
        than 1e-9); ``smallest_slack`` over all; mean true reward of the policy at the end.
    """
    rng = torch.Generator().manual_seed(seed)
    policy = Single(Sizes.of(population), run.width, rng)
    estimate = population.reward + draw_bias(population, run.bias, run.amplitude, rng)
    light = light_policy(population, estimate, run.temperature)
    optimizer = torch.optim.Adam(policy.parameters(), lr=run.rate)
    looks: list[tuple[int, BoundParts]] = []
    for step in range(run.steps + 1):
        log_prob = with_floor(policy(population), run.floor)
        group = make_group(log_prob.detach(), light, run, rng)
        if step % run.every == 0:
            looks.append((step, _look(population, log_prob.detach(), estimate, group, run)))
        if step == run.steps:
            break
        rewards = estimate.gather(1, group.chosen)
        reference = reference_policy(
            rewards, group.valid, temperature=run.temperature, scale=run.scale
        )
        loss = group_cross_entropy(log_prob.gather(1, group.chosen), reference, group.valid)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    reward = float((log_prob.detach().exp() * population.reward).sum(dim=1).mean())
    return _summary(run, looks, reward)


def _look(
    population: Population, log_prob: Tensor, estimate: Tensor, group: Group, run: GroupTraining
) -> BoundParts:
    return evidence_bound(
        population,
        log_prob,
        estimate,
        group,
        beta=run.amplitude,
        floor=run.floor,
        temperature=run.temperature,
        scale=run.scale,
    )


def _summary(
    run: GroupTraining, looks: list[tuple[int, BoundParts]], reward: float
) -> dict[str, Any]:
    parts = {name: torch.stack([getattr(p, name) for _, p in looks]) for name in BoundParts._fields}
    slack = torch.minimum(parts["bound"] - parts["kl"], parts["tight"] - parts["kl"])
    trace = {name: value.mean(dim=1).tolist() for name, value in parts.items()}
    parts["paid_swap"] = parts["coverage"] * parts["swap"]
    late = {name: float(value[-5:].mean()) for name, value in parts.items()}
    return {
        "settings": asdict(run),
        "trace": {"step": [step for step, _ in looks], **trace},
        "end": late,
        "checks": slack.numel(),
        "violations": int((slack < -1e-9).sum()),
        "smallest_slack": float(slack.min()),
        "reward": reward,
    }
