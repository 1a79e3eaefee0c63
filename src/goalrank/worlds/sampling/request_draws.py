"""What is asked: who comes, when, with which past and which candidates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from goalrank.worlds.world.world import DAY_US, EPOCH_US, PlantedWorld


@dataclass(frozen=True)
class DrawnRequests:
    """B requests before anything is shown.

    Attributes:
        world: whose requests these are.
        first: number of the first row (request_id and time follow from it).
        users: [B] numbers.
        time_us: [B] int64, microseconds since 1970 (UTC).
        days: [B] float64, days since the world's epoch.
        items: [B, N] candidates in random order.
        scores: [B, N] the retriever's noisy score, in logits.
        past: [B, H] item numbers, oldest first; only the last ``past_length`` count.
        past_us: [B, H] int64 times, strictly before the request.
        past_length: [B] in 0..H.
    """

    world: PlantedWorld
    first: int
    users: Tensor
    time_us: Tensor
    days: Tensor
    items: Tensor
    scores: Tensor
    past: Tensor
    past_us: Tensor
    past_length: Tensor


def _distinct_walk(rows: int, items: int, length: int, generator: torch.Generator) -> Tensor:
    """Rows of distinct items: a random start and a random step coprime with I: [rows, length]."""
    steps = torch.arange(1, min(items, 4096) + 1)
    steps = steps[torch.gcd(steps, torch.tensor(items)) == 1]
    step = steps[torch.randint(len(steps), (rows, 1), generator=generator)]
    start = torch.randint(items, (rows, 1), generator=generator)
    return (start + step * torch.arange(length)) % items


def _pool(
    world: PlantedWorld, rows: int, want: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Items to choose from, [rows, P], and whether each is the first of its kind in the row.

    The whole catalogue when it is small, otherwise four times ``want``: half of it spread evenly
    over the catalogue (and distinct, so that ``want`` can always be met), half drawn by popularity.
    """
    items = world.config.items
    if items <= max(256, 4 * want):
        pool = torch.arange(items).expand(rows, items)
        return pool, torch.ones(rows, items, dtype=torch.bool)
    half = 2 * want
    even = _distinct_walk(rows, items, half, generator)
    shares = world.latents.popularity.cumsum(0)
    drawn = torch.rand(rows, half, generator=generator, dtype=torch.float64) * shares[-1]
    famous = torch.searchsorted(shares, drawn).clamp_max(items - 1)
    # Stable sort: of equal items the evenly drawn one comes first and stays.
    pool, _ = torch.cat([even, famous], dim=1).sort(dim=1, stable=True)
    fresh = torch.ones_like(pool, dtype=torch.bool)
    fresh[:, 1:] = pool[:, 1:] != pool[:, :-1]
    return pool, fresh


def gumbel(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise, float64; both logs of the transform stay finite."""
    u = torch.rand(shape, generator=generator, dtype=torch.float64)
    return -torch.log(-torch.log(u.clamp(1e-300, 1.0 - 1e-16)))


def retrieve(
    world: PlantedWorld,
    taste: Tensor,
    days: Tensor,
    want: int,
    sharpness: float,
    generator: torch.Generator,
) -> Tensor:
    """``want`` distinct items a request, liked and popular ones more often, in random order.

    taste [B, D], days [B] → [B, want]. A Gumbel top-k over sharpness · logit + popularity_bias ·
    fame, so every item of the pool has a chance.
    """
    pool, fresh = _pool(world, len(taste), want, generator)
    lure = sharpness * world.logits(taste, pool, days)
    lure = lure + world.config.popularity_bias * world.fame[pool]
    lure = (lure + gumbel(lure.shape, generator)).masked_fill(~fresh, -torch.inf)
    chosen = pool.gather(1, lure.topk(want, dim=1).indices)
    order = torch.rand(chosen.shape, generator=generator).argsort(dim=1)
    return chosen.gather(1, order)


def _past(
    world: PlantedWorld, taste: Tensor, days: Tensor, time_us: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """A synthetic past of clicks: items the user would click, at random earlier times."""
    longest, rows = min(world.config.history, world.config.items), len(taste)
    if longest == 0:
        empty = torch.empty(rows, 0, dtype=torch.int64)
        return empty, empty, torch.zeros(rows, dtype=torch.int64)
    past = retrieve(world, taste, days, longest, 1.0, generator)
    hours = torch.empty(rows, longest, dtype=torch.float64).exponential_(0.5, generator=generator)
    gap = (hours * (DAY_US / 24)).to(torch.int64) + 1  # at least one microsecond
    before = time_us[:, None] - gap.flip(1).cumsum(1).flip(1)
    length = torch.randint(longest // 2, longest + 1, (rows,), generator=generator)
    return past, before, length


def draw_requests(
    world: PlantedWorld, first: int, rows: int, start_us: int, generator: torch.Generator
) -> DrawnRequests:
    """Draw ``rows`` requests; row number ``first`` + i comes i steps after ``start_us``."""
    config = world.config
    step = DAY_US / config.requests_per_day
    number = torch.arange(first, first + rows, dtype=torch.float64)
    time_us = start_us + (number * step).to(torch.int64)
    days = (time_us - EPOCH_US).to(torch.float64) / DAY_US
    users = torch.randint(config.users, (rows,), generator=generator)
    taste = world.tastes(users, days)
    items = retrieve(world, taste, days, config.candidates, config.retriever_sharpness, generator)
    noise = torch.randn(items.shape, generator=generator, dtype=torch.float64)
    scores = world.logits(taste, items, days) + config.retriever_noise * noise
    scores = scores + config.popularity_bias * world.fame[items]
    past, past_us, past_length = _past(world, taste, days, time_us, generator)
    return DrawnRequests(
        world, first, users, time_us, days, items, scores, past, past_us, past_length
    )
