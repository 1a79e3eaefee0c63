"""Training of the tiny generator by eq. 5, with both sides of the bound recorded on the way."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from goalrank.errors import ConfigError
from goalrank.studies.theory.bounds.bound import (
    BoundParts,
    Group,
    Scale,
    evidence_bound,
    with_floor,
)
from goalrank.studies.theory.bounds.reward_bias import BiasKind, draw_bias
from goalrank.studies.theory.fits.families import SingleGenerator, Sizes
from goalrank.studies.theory.population import Population
from goalrank.training import group_cross_entropy, reference_policy


@dataclass(frozen=True)
class GroupTraining:
    """Settings of one training run.

    Attributes:
        own: number of distinct lists per group that are drawn from the policy itself.
        light: number of distinct lists per group that a light model draws, see `light_policy`.
        scale: of the reference policy; "group" is the paper's z-score.
        temperature: of the reference policy, above 0.
        bias: kind of the bias of r̂, see `draw_bias`.
        amplitude: β >= |b|.
        width: hidden units of the generator.
        floor: δ in (0, 1), see `with_floor`.
        steps: Adam steps.
        rate: learning rate.
        every: steps between two records of the bound.
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
        """Check the values.

        Raises:
            ConfigError: a value out of range, or a bias without an upper bound.
        """
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
    """Draw distinct lists without replacement (Gumbel top-k).

    Args:
        log_prob: [M, P] log-probabilities of the lists.
        count: lists per request; at most P are drawn.
        generator: of the draws.

    Returns:
        [M, count] indices of lists.
    """
    noise = torch.rand(log_prob.shape, generator=generator, dtype=torch.float64)
    gumbel = -torch.log(-torch.log(noise.clamp(1e-300, 1.0 - 1e-16)))
    return (log_prob + gumbel).topk(min(count, log_prob.shape[1]), dim=1).indices


def light_policy(population: Population, estimate: Tensor, temperature: float) -> Tensor:
    """Make a light model: a Plackett–Luce policy that scores each candidate alone.

    The score of a candidate is L times the mean of r̂ over the lists that contain it, as a pointwise
    scorer trained by the reward model would learn it.

    Args:
        population: M requests with P lists.
        estimate: [M, P] r̂.
        temperature: of the policy, above 0.

    Returns:
        [M, P] log-probabilities.
    """
    tree, slots = population.prefixes, population.lists.shape[1]
    held = torch.zeros(len(population.lists), population.candidates, dtype=torch.float64)
    held.scatter_(1, population.lists, 1.0)
    score = slots * (estimate @ held) / held.sum(dim=0)
    logit = (score / temperature)[:, None, :].expand(-1, len(tree.used), -1)
    step = logit.masked_fill(tree.used, -torch.inf).log_softmax(dim=2).flatten(1)
    out: Tensor = step[:, tree.steps.flatten()].unflatten(1, tree.steps.shape).sum(dim=2)
    return out


def make_group(
    own_log_prob: Tensor, light_log_prob: Tensor, run: GroupTraining, generator: torch.Generator
) -> Group:
    """Draw the group of each request.

    Args:
        own_log_prob: [M, P] of the policy.
        light_log_prob: [M, P] of the light model.
        run: gives the numbers of lists.
        generator: of the draws.

    Returns:
        Own and light lists; a light list that is also an own one is not valid.
    """
    own = draw_distinct(own_log_prob, run.own, generator)
    light = draw_distinct(light_log_prob, run.light, generator)
    is_new = ~(light[:, :, None] == own[:, None, :]).any(dim=2)
    return Group(
        torch.cat([own, light], dim=1), torch.cat([torch.ones_like(own).bool(), is_new], dim=1)
    )


def train(population: Population, run: GroupTraining, *, seed: int) -> dict[str, Any]:
    """Train a generator by eq. 5 and record the bound.

    Args:
        population: the requests with their true rewards.
        run: settings of the run.
        seed: of weights, bias and groups.

    Returns:
        ``settings`` of the run; ``trace`` (per record: step, and means over requests of every part
        of `BoundParts`); ``end`` (means over the last five records, and ``paid_swap``, the coverage
        times the swap); ``checks`` (number of requests times records); ``violations`` (those where
        a bound was below the KL by more than 1e-9); ``smallest_slack`` over all; ``reward``, the
        mean true reward of the policy at the end.
    """
    rng = torch.Generator().manual_seed(seed)
    policy = SingleGenerator(Sizes.of(population), run.width, rng)
    estimate = population.reward + draw_bias(population, run.bias, run.amplitude, rng)
    light = light_policy(population, estimate, run.temperature)
    optimizer = torch.optim.Adam(policy.parameters(), lr=run.rate)
    records: list[tuple[int, BoundParts]] = []
    for step in range(run.steps + 1):
        log_prob = with_floor(policy(population), run.floor)
        group = make_group(log_prob.detach(), light, run, rng)
        if step % run.every == 0:
            records.append((step, _bound(population, log_prob.detach(), estimate, group, run)))
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
    return _summary(run, records, reward)


def _bound(
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
    run: GroupTraining, records: list[tuple[int, BoundParts]], reward: float
) -> dict[str, Any]:
    parts = {
        name: torch.stack([getattr(p, name) for _, p in records]) for name in BoundParts._fields
    }
    slack = torch.minimum(parts["bound"] - parts["kl"], parts["tight"] - parts["kl"])
    trace = {name: value.mean(dim=1).tolist() for name, value in parts.items()}
    parts["paid_swap"] = parts["coverage"] * parts["swap"]
    late = {name: float(value[-5:].mean()) for name, value in parts.items()}
    return {
        "settings": asdict(run),
        "trace": {"step": [step for step, _ in records], **trace},
        "end": late,
        "checks": slack.numel(),
        "violations": int((slack < -1e-9).sum()),
        "smallest_slack": float(slack.min()),
        "reward": reward,
    }
