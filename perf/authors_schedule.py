"""Schedule of the authors' code, as a reference for measurements.

Each of G lists is made separately, slot by slot, and each of its L steps encodes all N candidates
again; gradients go through all G·L passes. The networks are the same modules as ours, with the same
width and depth, so with the same weights both schedules are the same policy and only the order of
the work differs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from goalrank.nn import gumbel, request_salt
from goalrank.rankers import Generator
from goalrank.requests import Batch
from goalrank.rewards import Reward
from goalrank.training import group_cross_entropy, reference_policy


class Sampled(NamedTuple):
    """Drawn lists.

    Attributes:
        lists: [B, G, L].
        log_prob: [B, G] their log-probabilities, with gradients.
    """

    lists: Tensor
    log_prob: Tensor


def step_logits(model: Generator, batch: Batch, prefix: Tensor) -> Tensor:
    """Compute the logits [B, N] of the next slot; the whole request is encoded for them.

    Args:
        model: the generator.
        batch: B requests.
        prefix: [B, t] first slots of the list.
    """
    memory = model.encode(batch)
    following = torch.cat([prefix, prefix.new_full((len(prefix), 1), -1)], 1)
    logits: Tensor = model.decoder(memory, following.unsqueeze(1))[:, 0, -1]
    return logits


def sample_list(
    model: Generator, batch: Batch, slots: int, salt: Tensor, index: int, lists: int
) -> tuple[Tensor, Tensor]:
    """Draw one list of a group.

    Args:
        model: the generator.
        batch: B requests.
        slots: L.
        salt: of the noise, [B].
        index: number of the list in its group.
        lists: G.

    Returns:
        The list [B, L] and its log-probability [B].
    """
    prefix = torch.empty(batch.size, 0, dtype=torch.long)
    total = torch.zeros(batch.size)
    for t in range(slots):
        logits = step_logits(model, batch, prefix)
        noise = gumbel(salt, batch.candidates, lists, t)[:, index]
        pick = (logits.detach() + noise).argmax(-1, keepdim=True)
        total = total + logits.log_softmax(-1).gather(1, pick).squeeze(1)
        prefix = torch.cat([prefix, pick], 1)
    return prefix, total


def sample_group(
    model: Generator, batch: Batch, slots: int, lists: int, rng: torch.Generator
) -> Sampled:
    """Draw G lists from the policy, one after another.

    Args:
        model: the generator.
        batch: B requests.
        slots: L < N.
        lists: G.
        rng: of the draws.
    """
    salt = request_salt(batch.key, rng)
    made = [sample_list(model, batch, slots, salt, g, lists) for g in range(lists)]
    return Sampled(torch.stack([m[0] for m in made], 1), torch.stack([m[1] for m in made], 1))


def loss(
    model: Generator,
    reward: Reward,
    batch: Batch,
    slots: int,
    lists: int,
    rng: torch.Generator,
    temperature: float = 0.5,
) -> Tensor:
    """Compute eq. 5 on a group of the policy's own lists; each reward is computed separately.

    Args:
        model: the generator.
        reward: of the lists.
        batch: B requests.
        slots: L.
        lists: G.
        rng: of the draws.
        temperature: of the reference policy.
    """
    group = sample_group(model, batch, slots, lists, rng)
    with torch.no_grad():
        rewards = torch.cat([reward(batch, one.unsqueeze(1)) for one in group.lists.unbind(1)], 1)
    valid = torch.ones_like(rewards, dtype=torch.bool)
    reference = reference_policy(rewards, valid, temperature=temperature)
    return group_cross_entropy(group.log_prob, reference, valid)


def decode(model: Generator, batch: Batch, slots: int) -> Tensor:
    """Decode the greedy list [B, L].

    Args:
        model: the generator.
        batch: B requests.
        slots: L.
    """
    prefix = torch.empty(batch.size, 0, dtype=torch.long)
    for _ in range(slots):
        pick = step_logits(model, batch, prefix).argmax(-1, keepdim=True)
        prefix = torch.cat([prefix, pick], 1)
    return prefix
