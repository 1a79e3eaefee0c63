"""Draws requests tables from a world, in memory or streamed to a folder of Parquet shards."""

from __future__ import annotations

import secrets
import shutil
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
from goalrank.worlds.sampling.feedback import draw_feedback
from goalrank.worlds.sampling.logging_policies import BehaviourPolicy, LoggingPolicy
from goalrank.worlds.sampling.request_draws import DrawnRequests, draw_requests
from goalrank.worlds.sampling.tables import item_table, to_table, user_table
from goalrank.worlds.world.world import EPOCH_US, PlantedWorld

# Requests drawn together. Each block has a generator of its own, so a table does not depend on
# how it is cut into shards.
BLOCK = 2048


def _generator(world: PlantedWorld, seed: int, block: int) -> torch.Generator:
    """A generator for one block, independent of all others."""
    words = np.random.SeedSequence([world.config.seed, seed, block]).generate_state(2)
    return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


def round_seed(seed: int, first: int) -> int:
    """A seed of its own for the requests from number `first` on; `seed` itself at 0."""
    return mixed_seed(seed, first) if first else seed


def _start_us(start_time: datetime | None) -> int:
    if start_time is None:
        return EPOCH_US
    if start_time.tzinfo is None:
        raise ConfigError(f"start_time={start_time} has no time zone; remedy: tzinfo=UTC")
    past = start_time - datetime(1970, 1, 1, tzinfo=UTC)
    return (past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds


def answer(
    world: PlantedWorld, asked: DrawnRequests, policy: BehaviourPolicy, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Let a policy answer requests and users react.

    Returns:
        lists [B, L], feedback [B, L, K] float32, P(list) [B] or None.

    Raises:
        DataError: the policy's lists have a wrong shape or point at no candidate.
    """
    lists, propensity = policy(world, asked, generator)
    if lists.ndim != 2 or len(lists) != len(asked.users):
        raise DataError(
            f"policy '{policy.name}' gave lists of shape {tuple(lists.shape)} for "
            f"{len(asked.users)} requests; remedy: positions [B, L]"
        )
    scene = world.scene(asked.users, asked.items, asked.days)
    cascade = world.config.examination == "cascade"
    return lists, draw_feedback(scene, lists, generator, cascade=cascade), propensity


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
        asked = draw_requests(world, first + offset, rows, start_us, generator)
        lists, feedback, propensity = answer(world, asked, policy, generator)
        # Only policies that know them have slot propensities; see `LoggingPolicy`.
        known = getattr(policy, "slot_propensity", None)
        slots = None if known is None else known(world, asked, lists)
        yield to_table(
            asked, lists, feedback, propensity, policy.name, slot_propensity=slots, sides=False
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
    """A requests table with feedback drawn from the truth.

    Args:
        world: whose users answer.
        requests: R >= 1.
        seed: >= 0; the same seed gives the same table.
        policy: what fills the lists; None is the world's logging policy.
        start_time: when request number 0 comes (with time zone); None is 2024-01-01.
        first: number of the first request; a later round of logging goes on from the last number,
            so that ids stay unique and time (and with it drift) goes on. It changes nothing in
            what is drawn: give each round a seed of its own, such as `round_seed` makes, lest the
            same users ask for the same candidates again.

    Raises:
        ConfigError: an option out of range.
    """
    parts = list(_blocks(world, requests, seed, policy, start_time, first))
    return Requests(
        pl.concat([part.frame for part in parts]),
        items=item_table(world),
        users=user_table(world),
        info=parts[0].info,
    )


def _shards(parts: Iterator[Requests], rows: int) -> Iterator[Requests]:
    """Blocks gathered into tables of ``rows`` requests; at most one shard is held."""
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
    """Stream a table to a folder of Parquet shards: the rows that `sample` gives for this seed.

    Memory is bounded by one shard. The folder appears whole at the end or not at all.

    Args:
        path: a folder that does not exist yet.
        shard_rows: requests a shard.
        progress: called with the number of requests written so far.
        world, requests, seed, policy, start_time, first: as in `sample`.

    Raises:
        ConfigError: an option out of range. DataError: ``path`` exists or cannot be written.
    """
    path = Path(path)
    if shard_rows < 1:
        raise ConfigError(f"shard_rows={shard_rows} must be at least 1")
    if path.exists():
        raise DataError(f"'{path}' exists already; remedy: give the name of a new folder")
    if path.suffix == ".parquet":
        raise DataError(f"'{path}' names a file, shards need a folder; remedy: leave out .parquet")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    written = 0
    try:
        parts = _blocks(world, requests, seed, policy, start_time, first)
        for number, shard in enumerate(_shards(parts, shard_rows)):
            if number == 0:
                shard = Requests(
                    shard.frame, items=item_table(world), users=user_table(world), info=shard.info
                )
            shard.write(temporary / f"part-{number:06d}-world.parquet")
            written += len(shard)
            if progress is not None:
                progress(written)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path
