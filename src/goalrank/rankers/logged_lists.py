"""Lists with known feedback, for rankers with a list-level model."""

from __future__ import annotations

import torch
from torch import Tensor

from goalrank.nn import divisor, take_rows, uniform
from goalrank.rankers.base import top_slots
from goalrank.requests import Batch


def labels_beyond_shown(batch: Batch) -> bool:
    """Whether candidates that were not shown have labels, so that there is no logged list.

    Args:
        batch: B requests.
    """
    known = (batch.observed & batch.candidate_mask).sum()
    return bool(known > batch.shown_mask.sum())


def fully_labelled(batch: Batch) -> Tensor:
    """Whether every candidate of a request has a label: [B].

    Args:
        batch: B requests.
    """
    return (batch.observed | ~batch.candidate_mask).all(-1)


def labelled_lists(batch: Batch, slots: int, scores: Tensor, count: int = 4) -> Tensor:
    """Lists with known feedback in every slot.

    These are the shown lists (L' = S) where lists were shown. Where candidates were labelled
    instead, they are `count` lists of L slots drawn from the scores; every other one prefers
    relevant candidates, so that good lists are among them.

    Args:
        batch: B requests.
        slots: L.
        scores: [B, N] scores of the item-level model.
        count: lists to draw per request.

    Returns:
        [B, G, L'] positions.
    """
    if not labels_beyond_shown(batch):
        return batch.shown.unsqueeze(1)
    # Like dropout, from the global generator: another draw every step.
    seed = torch.randint(-(2**62), 2**62, (1,)).to(batch.key.device)
    noise = -torch.log(-torch.log(uniform(batch.key ^ seed, batch.candidates, count)))
    tilt = 3.0 * (torch.arange(count, device=noise.device) % 2)
    keys = scores.detach()[:, None, :] + tilt[:, None] * batch.relevance[:, None, :] + noise
    known = (batch.observed & batch.candidate_mask)[:, None, :].expand_as(keys)
    return top_slots(keys, known, slots)


def list_relevance(batch: Batch, lists: Tensor) -> Tensor:
    """Relevance [B, G, L] of each slot; 0 in empty slots.

    Args:
        batch: B requests.
        lists: [B, G, L] positions.
    """
    b = batch.size
    gain = batch.relevance.gather(1, lists.clamp_min(0).view(b, -1)).view(lists.shape)
    return gain * (lists >= 0)


def gather_lists(values: Tensor, lists: Tensor) -> Tensor:
    """Gather the values of each slot: [B, G, L, D], 0 in empty slots.

    Args:
        values: [B, N, D].
        lists: [B, G, L] positions.
    """
    b, g, slots = lists.shape
    picked = take_rows(values, lists.clamp_min(0).view(b, -1)).view(b, g, slots, -1)
    return picked * (lists >= 0).unsqueeze(-1)


def slot_loss(logits: Tensor, target: Tensor, real: Tensor) -> Tensor:
    """Mean binary cross-entropy over filled slots, a scalar.

    Args:
        logits: [B, G, L].
        target: [B, G, L] feedback, clamped to [0, 1].
        real: [B, G, L] True for filled slots.
    """
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, target.clamp(0, 1), reduction="none"
    )
    return (each * real).sum() / divisor(real.sum())
