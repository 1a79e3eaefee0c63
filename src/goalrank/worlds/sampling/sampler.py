"""Sampling of requests tables from a world, in memory or to a folder of Parquet shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from goalrank.errors import ConfigError, DataError
from goalrank.nn import mixed_seed
from goalrank.requests import Requests
from goalrank.storage import whole_folder
from goalrank.worlds.sampling.feedback import draw_feedback
from goalrank.worlds.sampling.logging_policies import BehaviourPolicy, LoggingPolicy
from goalrank.worlds.sampling.request_draws import DrawnRequests, draw_requests
from goalrank.worlds.sampling.tables import item_table, to_table, user_table
from goalrank.worlds.world.world import EPOCH_US, PlantedWorld

# Requests drawn together. Each block has its own generator, so a table does not depend on the size
# of its shards.
BLOCK = 2048


def _generator(world: PlantedWorld, seed: int, block: int) -> torch.Generator:
    """The generator of one block, independent of those of other blocks."""
    words = np.random.SeedSequence([world.config.seed, seed, block]).generate_state(2)
    return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


def round_seed(seed: int, first: int) -> int:
    """Seed for the requests from number `first` on, so that rounds of logging differ.

    Args:
        seed: seed of the whole log, at least 0.
        first: number of the round's first request.

    Returns:
        `seed` itself where `first` is 0, otherwise a mixture of both.
    """
    return mixed_seed(seed, first) if first else seed


def _start_us(start_time: datetime | None) -> int:
    if start_time is None:
        return EPOCH_US
    if start_time.tzinfo is None:
        raise ConfigError(f"start_time={start_time} has no time zone; remedy: tzinfo=UTC")
    elapsed = start_time - datetime(1970, 1, 1, tzinfo=UTC)
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


def draw_responses(
    world: PlantedWorld, drawn: DrawnRequests, policy: BehaviourPolicy, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Draw a policy's lists for requests and the users' feedback on them.

    Args:
        world: the world of the requests.
        drawn: B requests.
        policy: chooses the lists.
        generator: source of randomness.

    Returns:
        Lists [B, L], feedback [B, L, K] float32, P(list) [B] or None.

    Raises:
        DataError: the policy's lists have a wrong shape or point at no candidate.
    """
    lists, propensity = policy(world, drawn, generator)
    if lists.ndim != 2 or len(lists) != len(drawn.users):
        raise DataError(
            f"policy '{policy.name}' gave lists of shape {tuple(lists.shape)} for "
            f"{len(drawn.users)} requests; remedy: positions [B, L]"
        )
    model = world.response_model(drawn.users, drawn.items, drawn.days)
    cascade = world.config.examination == "cascade"
    return lists, draw_feedback(model, lists, generator, cascade=cascade), propensity


def _blocks(
    world: PlantedWorld,
    requests: int,
    seed: int,
    policy: BehaviourPolicy | None,
    start: datetime | None,
    first: int,
) -> Iterator[Requests]:
    if requests < 1 or first < 0 or seed < 0:
        raise ConfigError(
            f"requests={requests} must be at least 1, first={first} and seed={seed} at least 0"
        )
    if world.latents.items.device.type != "cpu":
        raise ConfigError("sampling runs on the CPU; remedy: world.to('cpu').sample(...)")
    policy = policy or LoggingPolicy(world.config.logging)
    start_us = _start_us(start)
    for number, offset in enumerate(range(0, requests, BLOCK)):
        generator = _generator(world, seed, number)
        rows = min(BLOCK, requests - offset)
        drawn = draw_requests(world, first + offset, rows, start_us, generator)
        lists, feedback, propensity = draw_responses(world, drawn, policy, generator)
        # Not every policy knows its slot propensities; see `LoggingPolicy`.
        known = getattr(policy, "slot_propensity", None)
        slots = None if known is None else known(world, drawn, lists)
        yield to_table(
            drawn, lists, feedback, propensity, policy.name, slot_propensity=slots, sides=False
        )


def sample(
    world: PlantedWorld,
    requests: int,
    *,
    seed: int = 0,
    policy: BehaviourPolicy | None = None,
    start_time: datetime | None = None,
    first: int = 0,
) -> Requests:
    """Sample a requests table whose feedback follows the world's response model.

    Args:
        world: the world to sample from.
        requests: R, at least 1.
        seed: at least 0; the same seed gives the same table.
        policy: chooses the lists; None is the world's logging policy.
        start_time: time of request number 0, with time zone; None is 2024-01-01.
        first: number of the first request. A later round of logging continues from the last
            number, so that ids stay unique and time (and with it drift) advances. The draws do not
            depend on it: give each round its own seed (see `round_seed`), otherwise the same users
            ask for the same candidates again.

    Raises:
        ConfigError: an option is out of range.
    """
    parts = list(_blocks(world, requests, seed, policy, start_time, first))
    return Requests(
        pl.concat([part.frame for part in parts]),
        items=item_table(world),
        users=user_table(world),
        info=parts[0].info,
    )


def _shards(parts: Iterator[Requests], rows: int) -> Iterator[Requests]:
    """Join blocks to tables of ``rows`` requests; at most one table is in memory."""
    held: list[pl.DataFrame] = []
    info = None
    for part in parts:
        held, info = [*held, part.frame], part.info
        while sum(len(frame) for frame in held) >= rows:
            frame = pl.concat(held)
            yield Requests(frame[:rows], info=info)
            held = [frame[rows:]]
    if sum(len(frame) for frame in held):
        yield Requests(pl.concat(held), info=info)


def sample_to(
    world: PlantedWorld,
    path: Path | str,
    requests: int,
    *,
    seed: int = 0,
    shard_rows: int = 65_536,
    policy: BehaviourPolicy | None = None,
    start_time: datetime | None = None,
    first: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Stream a table to a folder of Parquet shards, with the rows that `sample` gives for the seed.

    Memory is bounded by one shard. The folder appears whole at the end or not at all.

    Args:
        world: as in `sample`.
        path: a folder that does not exist yet.
        requests: as in `sample`.
        seed: as in `sample`.
        shard_rows: requests per shard, at least 1.
        policy: as in `sample`.
        start_time: as in `sample`.
        first: as in `sample`.
        progress: called with the number of requests written so far.

    Returns:
        The folder.

    Raises:
        ConfigError: an option is out of range.
        DataError: ``path`` exists or cannot be written.
    """
    path = Path(path)
    if shard_rows < 1:
        raise ConfigError(f"shard_rows={shard_rows} must be at least 1")
    if path.exists():
        raise DataError(f"'{path}' exists already; remedy: give the name of a new folder")
    if path.suffix == ".parquet":
        raise DataError(
            f"'{path}' names a file, but shards need a folder; remedy: leave out .parquet"
        )
    written = 0
    with whole_folder(path) as temporary:
        parts = _blocks(world, requests, seed, policy, start_time, first)
        for number, shard in enumerate(_shards(parts, shard_rows)):
            whole = shard
            if number == 0:
                whole = Requests(
                    shard.frame, items=item_table(world), users=user_table(world), info=shard.info
                )
            whole.write(temporary / f"part-{number:06d}-world.parquet")
            written += len(shard)
            if progress is not None:
                progress(written)
    return path
