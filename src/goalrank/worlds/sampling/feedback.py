"""Draws of user feedback, slot after slot, from the same law as the expected reward."""

from __future__ import annotations

import torch
from torch import Tensor

from goalrank.worlds.world.response_model import ResponseModel


def _looks(scene: ResponseModel, lists: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """Independent looks of the position model: P(look at t) = decay^(filled slots before t)."""
    real = lists >= 0
    rank = (real.cumsum(dim=1) - 1).clamp_min(0).to(torch.float64)
    chance = torch.pow(torch.tensor(scene.physics.after_skip, dtype=torch.float64), rank)
    return torch.rand(lists.shape, generator=generator, dtype=torch.float64) < chance


def draw_clicks(
    scene: ResponseModel, lists: Tensor, generator: torch.Generator, *, cascade: bool
) -> Tensor:
    """One user's clicks on each list: lists [B, L] → [B, L] bool.

    Each row first draws its mood, then looks at slots in order: in the cascade the user stops or
    goes on after each slot, in the position model each slot is looked at independently.
    """
    a = scene.attraction(lists[:, None, :])[:, :, 0, :]  # [M, B, L]
    moods, rows, slots = a.shape
    mood = torch.randint(moods, (rows,), generator=generator)
    a = a[mood, torch.arange(rows)]
    real = lists >= 0
    tempted = torch.rand(rows, slots, generator=generator, dtype=torch.float64) < a
    if not cascade:
        return tempted & _looks(scene, lists, rows, generator) & real
    stay = torch.rand(rows, slots, generator=generator, dtype=torch.float64)
    looking = torch.ones(rows, dtype=torch.bool)
    clicks = torch.zeros(rows, slots, dtype=torch.bool)
    after = torch.tensor([scene.physics.after_skip, scene.physics.after_click], dtype=torch.float64)
    for t in range(slots):
        clicks[:, t] = looking & tempted[:, t] & real[:, t]
        goes_on = stay[:, t] < after[clicks[:, t].to(torch.int64)]
        looking = torch.where(real[:, t], looking & goes_on, looking)
    return clicks


def draw_feedback(
    scene: ResponseModel, lists: Tensor, generator: torch.Generator, *, cascade: bool
) -> Tensor:
    """Feedback of every kind: lists [B, L] → [B, L, K] float32 of 0 and 1.

    Kinds after the click are drawn only where a click happened.
    """
    clicks = draw_clicks(scene, lists, generator, cascade=cascade)
    kinds = scene.given_click.shape[2]
    place = lists.clamp_min(0)[..., None].expand(-1, -1, kinds)
    given = scene.given_click.gather(1, place)
    drawn = torch.rand(given.shape, generator=generator, dtype=torch.float64) < given
    drawn[..., 0] = True
    return (drawn & clicks[..., None]).to(torch.float32)
