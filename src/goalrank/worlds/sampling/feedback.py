"""Sampling of user feedback, slot by slot, from the model that defines the expected reward."""

from __future__ import annotations

import torch
from torch import Tensor

from goalrank.worlds.world.response_model import ResponseModel


def _examined_slots(model: ResponseModel, lists: Tensor, generator: torch.Generator) -> Tensor:
    """Examined slots [B, L] of the position model: P(examine t) = decay^(filled slots before t)."""
    real = lists >= 0
    rank = (real.cumsum(dim=1) - 1).clamp_min(0).to(torch.float64)
    chance = torch.pow(torch.tensor(model.parameters.after_skip, dtype=torch.float64), rank)
    return torch.rand(lists.shape, generator=generator, dtype=torch.float64) < chance


def draw_clicks(
    model: ResponseModel, lists: Tensor, generator: torch.Generator, *, cascade: bool
) -> Tensor:
    """Draw one user's clicks on each list.

    Each row first draws one of the logit shifts. In the cascade model the user examines the slots
    in order and stops or continues after each one. In the position model the user examines each
    slot independently.

    Args:
        model: response model of B requests.
        lists: [B, L] positions, -1 in empty slots.
        generator: source of randomness.
        cascade: True for the cascade model, False for the position model.

    Returns:
        [B, L] bool.
    """
    a = model.attraction(lists[:, None, :])[:, :, 0, :]  # [M, B, L]
    shifts, rows, slots = a.shape
    shift = torch.randint(shifts, (rows,), generator=generator)
    a = a[shift, torch.arange(rows)]
    real = lists >= 0
    attracted = torch.rand(rows, slots, generator=generator, dtype=torch.float64) < a
    if not cascade:
        return attracted & _examined_slots(model, lists, generator) & real
    continue_draw = torch.rand(rows, slots, generator=generator, dtype=torch.float64)
    examining = torch.ones(rows, dtype=torch.bool)
    clicks = torch.zeros(rows, slots, dtype=torch.bool)
    after = torch.tensor(
        [model.parameters.after_skip, model.parameters.after_click], dtype=torch.float64
    )
    for t in range(slots):
        clicks[:, t] = examining & attracted[:, t] & real[:, t]
        continues = continue_draw[:, t] < after[clicks[:, t].to(torch.int64)]
        examining = torch.where(real[:, t], examining & continues, examining)
    return clicks


def draw_feedback(
    model: ResponseModel, lists: Tensor, generator: torch.Generator, *, cascade: bool
) -> Tensor:
    """Draw feedback of every kind on each list.

    Kinds after the click are drawn only where a click happened.

    Args:
        model: response model of B requests.
        lists: [B, L] positions, -1 in empty slots.
        generator: source of randomness.
        cascade: True for the cascade model, False for the position model.

    Returns:
        [B, L, K] float32 of 0 and 1.
    """
    clicks = draw_clicks(model, lists, generator, cascade=cascade)
    kinds = model.given_click.shape[2]
    index = lists.clamp_min(0)[..., None].expand(-1, -1, kinds)
    given = model.given_click.gather(1, index)
    drawn = torch.rand(given.shape, generator=generator, dtype=torch.float64) < given
    drawn[..., 0] = True
    return (drawn & clicks[..., None]).to(torch.float32)
