"""Slot groups: lists that differ in one slot, which many candidates take in turn."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from goalrank.nn import request_salt, uniform
from goalrank.rankers import neighbours, top_slots
from goalrank.requests import Batch


class SlotGroup(NamedTuple):
    """Lists that differ in one slot.

    Attributes:
        lists: [B, M, L]; a candidate from a later slot has changed places.
        prefix: [B, T] candidates before the slot.
        tried: [B, M] the candidate at the slot, 0 where not valid.
        valid: [B, M].
    """

    lists: Tensor
    prefix: Tensor
    tried: Tensor
    valid: Tensor


def slot_group(own: Tensor, slot: int, batch: Batch, rng: torch.Generator, tries: int) -> SlotGroup:
    """Put candidates in turn at one slot of own lists [B, L]: M lists per request.

    The slot's own candidate is always among them. M = min(tries, N); requests whose list took all
    candidates before the slot have no valid list.
    """
    prefix, here = own[:, :slot], own[:, slot : slot + 1]
    noise = uniform(request_salt(batch.key, rng), batch.candidates, 1)[:, 0]
    noise = noise.scatter(1, here.clamp_min(0), 2.0)
    free = batch.candidate_mask.scatter(1, prefix.clamp_min(0), False)
    tried = top_slots(noise, free, min(tries, noise.shape[1]))
    at = torch.full_like(here, slot)
    lists = neighbours(own[:, None], at, tried.clamp_min(0)[:, None])[:, 0]
    return SlotGroup(lists, prefix, tried.clamp_min(0), tried >= 0)
