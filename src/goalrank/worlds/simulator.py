"""The simulator: a planted world that also samples requests tables."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from goalrank.requests import Requests
from goalrank.worlds.sampling.logging_policies import BehaviourPolicy
from goalrank.worlds.sampling.sampler import sample, sample_to
from goalrank.worlds.world.world import PlantedWorld


class World(PlantedWorld):
    """A simulator: a `PlantedWorld` whose logging policy fills requests tables."""

    def sample(
        self,
        requests: int,
        *,
        seed: int = 0,
        policy: BehaviourPolicy | None = None,
        start_time: datetime | None = None,
        first: int = 0,
    ) -> Requests:
        """Sample a requests table; the arguments are those of `goalrank.worlds.sample`."""
        return sample(self, requests, seed=seed, policy=policy, start_time=start_time, first=first)

    def sample_to(
        self,
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
        """Stream the same rows to Parquet shards; the arguments are those of `worlds.sample_to`."""
        return sample_to(
            self,
            path,
            requests,
            seed=seed,
            shard_rows=shard_rows,
            policy=policy,
            start_time=start_time,
            first=first,
            progress=progress,
        )
