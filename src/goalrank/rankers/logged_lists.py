"""Lists with known feedback, for rankers that hold a list-level model of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from goalrank.nn import divisor, take_rows, uniform
from goalrank.rankers.base import top_slots
from goalrank.requests import Batch


def labels_beyond_shown(batch: Batch) -> bool:
    """Whether candidates were labelled that were not shown: then there is no logged list."""
    known = (batch.observed & batch.candidate_mask).sum()
    return bool(known > batch.shown_mask.sum())


def labelled_throughout(batch: Batch) -> Tensor:
    """[B] whether every candidate of a request has a label."""
    return (batch.observed | ~batch.candidate_mask).all(-1)


def labelled_lists(batch: Batch, slots: int, scores: Tensor, count: int = 4) -> Tensor:
    """Lists [B, G, L'] whose every slot has known feedback.

    The shown list (L' = S) where there is one. Where candidates were labelled instead, `count`
    lists of L drawn from the scores, every other one tilted towards relevant candidates so that
    good lists are seen as well.

    Args:
        scores: [B, N] of the item-level model.
    """
    if not labels_beyond_shown(batch):
        return batch.shown.unsqueeze(1)
    # Drawn from the global stream, as dropout is: another draw every step.
    seed = torch.randint(-(2**62), 2**62, (1,)).to(batch.key.device)
    noise = -torch.log(-torch.log(uniform(batch.key ^ seed, batch.candidates, count)))
    tilt = 3.0 * (torch.arange(count, device=noise.device) % 2)
    keys = scores.detach()[:, None, :] + tilt[:, None] * batch.relevance[:, None, :] + noise
    known = (batch.observed & batch.candidate_mask)[:, None, :].expand_as(keys)
    return top_slots(keys, known, slots)


def list_relevance(batch: Batch, lists: Tensor) -> Tensor:
    """Relevance [B, G, L] of each slot of lists [B, G, L]; 0 where empty."""
    b = batch.size
    gain = batch.relevance.gather(1, lists.clamp_min(0).view(b, -1)).view(lists.shape)
    return gain * (lists >= 0)


def gather_lists(values: Tensor, lists: Tensor) -> Tensor:
    """values [B, N, D] at lists [B, G, L] → [B, G, L, D]; 0 where empty."""
    b, g, slots = lists.shape
    picked = take_rows(values, lists.clamp_min(0).view(b, -1)).view(b, g, slots, -1)
    return picked * (lists >= 0).unsqueeze(-1)


def slot_loss(logits: Tensor, target: Tensor, real: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits [B, G, L] over real slots; a scalar."""
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, target.clamp(0, 1), reduction="none"
    )
    return (each * real).sum() / divisor(real.sum())
