"""The group: lists of one request to learn from, and which of them count."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SOURCES = ("own", "light", "heuristic", "perturbed", "logged", "random")


class Group(NamedTuple):
    """Groups of a batch.

    Attributes:
        lists: [B, G, L].
        valid: [B, G] False for repeats and for lists that do not exist (nothing was logged).
        source: [G] index into `SOURCES`.
    """

    lists: Tensor
    valid: Tensor
    source: Tensor


def repeats(lists: Tensor) -> Tensor:
    """[B, G] True where the same list occurs earlier in the group."""
    same = (lists[:, :, None, :] == lists[:, None, :, :]).all(-1)
    return same.tril(-1).any(-1)


def thin(rewards: Tensor, valid: Tensor, keep: int) -> Tensor:
    """Keep `keep` valid lists of each group, evenly spaced by reward rank: [B, G] True = kept.

    The best and the worst stay; `keep` 0 keeps all. Larger gaps between rewards keep their order under the reward
    model's bias (GoalRank's condition on the gap).
    """
    if keep <= 0 or keep >= rewards.shape[1]:
        return valid
    count = valid.sum(-1, keepdim=True)
    order = rewards.masked_fill(~valid, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    steps = torch.arange(keep, device=rewards.device) / max(keep - 1, 1)
    rank = (steps * (count - 1).clamp_min(0)).round().long()
    kept = torch.zeros_like(valid).scatter(1, order.gather(1, rank), True)
    return kept & valid
