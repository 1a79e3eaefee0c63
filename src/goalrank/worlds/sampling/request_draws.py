"""Sampling of requests: user, time, history and candidates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from goalrank.worlds.world.world import DAY_US, EPOCH_US, PlantedWorld


@dataclass(frozen=True)
class DrawnRequests:
    """B requests before a list is shown.

    Attributes:
        world: the world that the requests were drawn from.
        first: number of the first row; request_id and time follow from it.
        users: [B] user numbers.
        time_us: [B] int64, microseconds since 1970 (UTC).
        days: [B] float64, days since the world's epoch.
        items: [B, N] candidates in random order.
        scores: [B, N] noisy scores of the retriever, in logits.
        history: [B, H] item numbers, oldest first; only the last ``history_length`` are real.
        history_us: [B, H] int64 times, strictly before the request.
        history_length: [B] in 0..H.
    """

    world: PlantedWorld
    first: int
    users: Tensor
    time_us: Tensor
    days: Tensor
    items: Tensor
    scores: Tensor
    history: Tensor
    history_us: Tensor
    history_length: Tensor


def _distinct_walk(rows: int, items: int, length: int, generator: torch.Generator) -> Tensor:
    """Rows [rows, length] of distinct items: a random start and a random step coprime to I."""
    steps = torch.arange(1, min(items, 4096) + 1)
    steps = steps[torch.gcd(steps, torch.tensor(items)) == 1]
    step = steps[torch.randint(len(steps), (rows, 1), generator=generator)]
    start = torch.randint(items, (rows, 1), generator=generator)
    return (start + step * torch.arange(length)) % items


def _pool(
    world: PlantedWorld, rows: int, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Items to choose from [rows, P], and whether each is its first occurrence in the row.

    The pool is the whole catalogue if it is small, otherwise four times ``count`` items: half of
    them spread evenly over the catalogue (and distinct, so that there are always ``count``
    different items), half drawn by popularity.
    """
    items = world.config.items
    if items <= max(256, 4 * count):
        pool = torch.arange(items).expand(rows, items)
        return pool, torch.ones(rows, items, dtype=torch.bool)
    half = 2 * count
    even = _distinct_walk(rows, items, half, generator)
    shares = world.latents.popularity.cumsum(0)
    points = torch.rand(rows, half, generator=generator, dtype=torch.float64) * shares[-1]
    popular = torch.searchsorted(shares, points).clamp_max(items - 1)
    # Stable sort: of equal items the evenly drawn one comes first and stays.
    pool, _ = torch.cat([even, popular], dim=1).sort(dim=1, stable=True)
    first_occurrence = torch.ones_like(pool, dtype=torch.bool)
    first_occurrence[:, 1:] = pool[:, 1:] != pool[:, :-1]
    return pool, first_occurrence


def gumbel(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise, float64, always finite.

    Args:
        shape: shape of the noise.
        generator: source of randomness.
    """
    u = torch.rand(shape, generator=generator, dtype=torch.float64)
    return -torch.log(-torch.log(u.clamp(1e-300, 1.0 - 1e-16)))


def retrieve(
    world: PlantedWorld,
    user_vector: Tensor,
    days: Tensor,
    count: int,
    sharpness: float,
    generator: torch.Generator,
) -> Tensor:
    """Retrieve distinct items per request, in random order.

    A Gumbel top-k over sharpness · logit + popularity_bias · popularity_score: items that the user
    likes and popular items come more often, and every item of the pool has a chance.

    Args:
        world: the world of the users.
        user_vector: [B, D] from `PlantedWorld.user_vectors`.
        days: [B] days since the world's epoch.
        count: items per request.
        sharpness: weight of the user's own logit.
        generator: source of randomness.

    Returns:
        [B, count] item numbers.
    """
    pool, first_occurrence = _pool(world, len(user_vector), count, generator)
    keys = sharpness * world.logits(user_vector, pool, days)
    keys = keys + world.config.popularity_bias * world.popularity_score[pool]
    keys = (keys + gumbel(keys.shape, generator)).masked_fill(~first_occurrence, -torch.inf)
    chosen = pool.gather(1, keys.topk(count, dim=1).indices)
    order = torch.rand(chosen.shape, generator=generator).argsort(dim=1)
    return chosen.gather(1, order)


def _history(
    world: PlantedWorld,
    user_vector: Tensor,
    days: Tensor,
    time_us: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a history of clicks: items that the user would click, at random earlier times."""
    longest, rows = min(world.config.history, world.config.items), len(user_vector)
    if longest == 0:
        empty = torch.empty(rows, 0, dtype=torch.int64)
        return empty, empty, torch.zeros(rows, dtype=torch.int64)
    history = retrieve(world, user_vector, days, longest, 1.0, generator)
    hours = torch.empty(rows, longest, dtype=torch.float64).exponential_(0.5, generator=generator)
    gap = (hours * (DAY_US / 24)).to(torch.int64) + 1  # at least one microsecond
    before = time_us[:, None] - gap.flip(1).cumsum(1).flip(1)
    length = torch.randint(longest // 2, longest + 1, (rows,), generator=generator)
    return history, before, length


def draw_requests(
    world: PlantedWorld, first: int, rows: int, start_us: int, generator: torch.Generator
) -> DrawnRequests:
    """Draw requests; request number ``first`` + i comes ``first`` + i steps after ``start_us``.

    Args:
        world: the world to draw from.
        first: number of the first request, at least 0.
        rows: number of requests.
        start_us: time of request number 0, microseconds since 1970 (UTC).
        generator: source of randomness.
    """
    config = world.config
    step = DAY_US / config.requests_per_day
    number = torch.arange(first, first + rows, dtype=torch.float64)
    time_us = start_us + (number * step).to(torch.int64)
    days = (time_us - EPOCH_US).to(torch.float64) / DAY_US
    users = torch.randint(config.users, (rows,), generator=generator)
    user_vector = world.user_vectors(users, days)
    items = retrieve(
        world, user_vector, days, config.candidates, config.retriever_sharpness, generator
    )
    noise = torch.randn(items.shape, generator=generator, dtype=torch.float64)
    scores = world.logits(user_vector, items, days) + config.retriever_noise * noise
    scores = scores + config.popularity_bias * world.popularity_score[items]
    history, history_us, history_length = _history(world, user_vector, days, time_us, generator)
    return DrawnRequests(
        world, first, users, time_us, days, items, scores, history, history_us, history_length
    )
