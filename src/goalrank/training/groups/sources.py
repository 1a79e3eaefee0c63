"""Sources of lists for groups, other than the policy's own samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from goalrank.nn import request_salt, uniform
from goalrank.rankers import Ranker, top_slots
from goalrank.requests import Batch


def light_lists(
    light: Sequence[Ranker], batch: Batch, count: int, slots: int, rng: torch.Generator
) -> Tensor:
    """Take lists [B, count, L] from light models in turn: each one's best list, then samples."""
    out: list[Tensor] = []
    for i, ranker in enumerate(light):
        own = len(range(i, count, len(light)))
        if own == 0:
            continue
        state = ranker.encode(batch)
        out.append(ranker.best(state, batch, slots).unsqueeze(1))
        if own > 1:
            out.append(ranker.draw(state, batch, own - 1, slots, rng))
    return torch.cat(out, 1)


def random_lists(batch: Batch, count: int, slots: int, rng: torch.Generator) -> Tensor:
    """Draw lists [B, count, L] uniformly at random."""
    noise = uniform(request_salt(batch.key, rng), batch.candidates, count)
    mask = batch.candidate_mask[:, None, :].expand_as(noise)
    return top_slots(noise, mask, slots)


def logged_list(batch: Batch, slots: int) -> Tensor:
    """Take the shown list [B, 1, L], cut to L; all -1 if fewer than min(L, N) items were shown.

    The policy never makes a list that stops early, so such a list is left out.
    """
    shown = F.pad(batch.shown, (0, slots), value=-1)[:, :slots]
    full = (shown >= 0).sum(-1) >= batch.candidate_mask.sum(-1).clamp_max(slots)
    return torch.where(full[:, None], shown, -1).unsqueeze(1)


def heuristic_lists(batch: Batch, count: int, slots: int, rng: torch.Generator) -> Tensor:
    """Sort candidates by randomly chosen plain columns, in either direction: [B, count, L]."""
    columns = torch.cat([batch.candidate_score[..., None], batch.candidate_features], -1)
    at = torch.randint(columns.shape[-1], (count,), generator=rng)
    sign = torch.where(torch.rand(count, generator=rng) < 0.75, 1.0, -1.0)
    scores = (columns[..., at] * sign.to(columns.device)).transpose(1, 2)
    # Ties (a column may be absent) are broken at random, not by candidate order.
    noise = uniform(request_salt(batch.key, rng), batch.candidates, count)
    mask = batch.candidate_mask[:, None, :].expand_as(scores)
    return top_slots(scores + 1e-4 * noise, mask, slots)


def perturb(lists: Tensor, batch: Batch, rng: torch.Generator) -> Tensor:
    """Change each list [B, P, L] a little: swap two slots, or put another candidate in one slot.

    Either with probability 1/2. A list with nothing to change (one candidate) is returned as it is.
    """
    b, p, slots = lists.shape
    noise = uniform(
        request_salt(batch.key, rng), torch.arange(slots + 3, device=lists.device).expand(b, -1), p
    )
    length = (lists >= 0).sum(-1, keepdim=True).clamp_min(1)
    first = (noise[..., slots : slots + 1] * length).long()
    second = (first + 1 + (noise[..., slots + 1 : slots + 2] * (length - 1)).long()) % length
    a, c = lists.gather(2, first), lists.gather(2, second)
    swapped = lists.scatter(2, first, c).scatter(2, second, a)
    outside = batch.candidate_mask[:, None, :].expand(b, p, -1).clone()
    outside.scatter_(2, lists.clamp_min(0), False)
    draw = uniform(request_salt(batch.key, rng), batch.candidates, p)
    new = draw.masked_fill(~outside, -1.0).argmax(-1, keepdim=True)
    replaced = torch.where(outside.any(-1, keepdim=True), lists.scatter(2, first, new), swapped)
    replaced = torch.where(lists >= 0, replaced, lists)
    return torch.where(noise[..., slots + 2 :] < 0.5, swapped, replaced)
