"""The schedule of the authors' code, as a plain reference to measure against.

Each of G lists is made on its own, slot by slot, and each of its L steps encodes all N candidates
anew; gradients run through every one of the G·L passes. The networks are the same modules as
ours, at the same width and depth, so that with the same weights both schedules describe the same
policy and only the order of the work differs.
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
    """Lists [B, G, L] and their log-probabilities [B, G], with gradients."""

    lists: Tensor
    log_prob: Tensor


def step_logits(model: Generator, batch: Batch, prefix: Tensor) -> Tensor:
    """Logits [B, N] of the slot after prefix [B, t]; the whole request is encoded for them."""
    memory = model.encode(batch)
    following = torch.cat([prefix, prefix.new_full((len(prefix), 1), -1)], 1)
    return model.decoder(memory, following.unsqueeze(1))[:, 0, -1]


def sample_list(
    model: Generator, batch: Batch, slots: int, salt: Tensor, index: int, lists: int
) -> tuple[Tensor, Tensor]:
    """List number `index` [B, L] of a group of `lists`, and its log-probability [B]."""
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
    """G lists of L < N slots drawn from the policy, one after another."""
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
    """Eq. 5 on a group of own samples, each rewarded as it is made."""
    group = sample_group(model, batch, slots, lists, rng)
    with torch.no_grad():
        rewards = torch.cat([reward(batch, one.unsqueeze(1)) for one in group.lists.unbind(1)], 1)
    valid = torch.ones_like(rewards, dtype=torch.bool)
    reference = reference_policy(rewards, valid, temperature=temperature)
    return group_cross_entropy(group.log_prob, reference, valid)


def decode(model: Generator, batch: Batch, slots: int) -> Tensor:
    """The greedy list [B, L]."""
    prefix = torch.empty(batch.size, 0, dtype=torch.long)
    for _ in range(slots):
        pick = step_logits(model, batch, prefix).argmax(-1, keepdim=True)
        prefix = torch.cat([prefix, pick], 1)
    return prefix
