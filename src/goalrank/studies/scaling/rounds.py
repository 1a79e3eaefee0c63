"""Logs made in rounds: a policy trained on the earlier rounds answers the requests of the next."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from goalrank.requests import Encoder, Requests
from goalrank.settings import merge
from goalrank.studies.scaling.suite import ScalingSuite, steps_overrides
from goalrank.training import FitConfig, Job, LoopConfig, RunOptions, build_config
from goalrank.worlds import RankerPolicy, World, round_seed


def log_in_rounds(
    suite: ScalingSuite,
    world: World,
    requests: int,
    seed: int,
    validation: Requests,
    *,
    accelerator: str = "auto",
) -> Requests:
    """Make a log of a world in the suite's rounds, which have equal length.

    The world's logging policy answers the first round. A GoalRank of the suite's recipe and first
    size, trained on all earlier rounds, draws the lists of each later one. Its steps are
    proportional to its training requests, so that every training makes as many passes over them.

    Args:
        suite: gives the rounds, the recipe and the first size.
        world: the world.
        requests: number of requests.
        seed: of requests and training.
        validation: requests for early stopping, answered by the world's logging policy.
        accelerator: "cpu", "gpu" or "auto", for training.
    """
    ends = np.linspace(0, requests, suite.rounds + 1).round().astype(int).tolist()
    log = world.sample(ends[1], seed=seed)
    for start, stop in pairwise(ends[1:]):
        policy = _trained_policy(suite, world, log, requests, seed, validation, accelerator)
        more = world.sample(stop - start, seed=round_seed(seed, start), policy=policy, first=start)
        frame = pl.concat([log.frame, more.frame], how="diagonal")
        log = Requests(frame, items=log.items, users=log.users, info=log.info)
    return log


def _trained_policy(
    suite: ScalingSuite,
    world: World,
    log: Requests,
    requests: int,
    seed: int,
    validation: Requests,
    accelerator: str,
) -> RankerPolicy:
    config = _recipe(suite, world, len(log) / requests, requests, seed)
    encoder = Encoder.fit(log, config.encoder)
    with TemporaryDirectory() as scratch:
        options = RunOptions(Path(scratch), progress=False, accelerator=accelerator)
        parts = encoder.encode(log), encoder.encode(validation)
        fitted = Job(encoder.spec, *parts, config, options).run()
    ranker = fitted.rankers[config.ranker.name].cpu()
    return RankerPolicy(ranker, encoder, name="goalrank")


def _recipe(suite: ScalingSuite, world: World, share: float, requests: int, seed: int) -> FitConfig:
    """Make the suite's recipe with `share` of its steps."""
    ranker = {**suite.sizes[0].ranker, "name": "goalrank", "slots": world.config.slots}
    recipe = merge(suite.recipe, steps_overrides(suite, requests))
    config = build_config(merge(recipe, {"ranker": ranker, "seed": seed}))
    reward = config.reward.model_copy(update={"loop": _shortened(config.reward.loop, share)})
    return config.model_copy(
        update={
            "light_loop": _shortened(config.light_loop, share),
            "reward": reward,
            "training": _shortened(config.training, share),
        }
    )


def _shortened(loop: LoopConfig, share: float) -> LoopConfig:
    given = {name: getattr(loop, name) for name in ("steps", "validate_every", "warmup")}
    return loop.model_copy(
        update={name: max(1, round(value * share)) for name, value in given.items() if value}
    )
