"""Workloads of the benchmarks: requests of exact sizes, and models with equal encoder sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from goalrank.encoders import EncoderSizes
from goalrank.rankers import PRM, Generator
from goalrank.requests import Batch, EncodedRequests, EntityTable, InputSpec
from goalrank.rewards import ListReward
from goalrank.training import (
    CachedScores,
    GroupBuilder,
    GroupConfig,
    GroupTask,
    LoopConfig,
    ObjectiveConfig,
    SupervisedTask,
    Task,
)

ITEMS, USERS = 3000, 500


@dataclass(frozen=True)
class Sizes:
    """Sizes of requests and models.

    Attributes:
        candidates: N.
        history: H.
        slots: L.
        lists: G.
        width: D.
        layers: of the encoder.
        heads: of the attention.
        batch: B.
        features: F, numbers per candidate.
    """

    candidates: int = 50
    history: int = 0
    slots: int = 6
    lists: int = 20
    width: int = 128
    layers: int = 2
    heads: int = 4
    batch: int = 16
    features: int = 0

    def but(self, **changed: int) -> Sizes:
        """Change some sizes.

        Args:
            **changed: the new sizes.
        """
        return replace(self, **changed)


def entities(rows: int) -> EntityTable:
    """Make a table of ids without features: row 0 is padding, the last row is for unknown ids.

    Args:
        rows: number of rows.
    """
    ids = torch.arange(rows)
    bucket = torch.full_like(ids, rows - 1)
    bucket[0] = 0
    return EntityTable(ids, bucket, torch.zeros(rows, 0), torch.zeros(rows, 0, dtype=torch.long),
                       torch.zeros(rows, 0))  # fmt: skip


def make_columns(sizes: Sizes, requests: int, seed: int = 0) -> EncodedRequests:
    """Make requests of exactly N candidates, H events and L shown items with random clicks.

    Args:
        sizes: N, H, L and F.
        requests: number of requests.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    n, h, slots = sizes.candidates, sizes.history, sizes.slots
    time = np.arange(requests, dtype=np.int64) * 10**6 + 10**12

    def rows(width: int) -> NDArray[np.int64]:
        return np.arange(requests + 1, dtype=np.int64) * width

    def ids(count: int) -> NDArray[np.int32]:
        return rng.integers(1, ITEMS + 1, count).astype(np.int32)

    features = np.random.default_rng([seed, 1]).normal(size=(requests * n, sizes.features))
    shown = np.argsort(rng.random((requests, n)), 1)[:, :slots].astype(np.int32).ravel()
    return EncodedRequests(
        items=entities(ITEMS + 2), users=entities(USERS + 2), kinds=("click",), target=0,
        protocol="retrieved", history_limit=max(h, 1), key=rng.integers(-(2**62), 2**62, requests),
        time=time, user=rng.integers(1, USERS + 1, requests).astype(np.int32),
        propensity=np.full(requests, np.nan, np.float32),
        history_start=rows(h), history=ids(requests * h),
        history_feedback=np.ones(requests * h, np.float32), history_time=np.repeat(time, h) - 1,
        candidate_start=rows(n), candidates=ids(requests * n),
        candidate_score=rng.normal(size=requests * n).astype(np.float32),
        candidate_features=features.astype(np.float32),
        shown_start=rows(slots), shown=shown,
        feedback=rng.integers(0, 2, (requests * slots, 1)).astype(np.float32),
    )  # fmt: skip


def spec_of(columns: EncodedRequests) -> InputSpec:
    """Give the input sizes of the requests of `make_columns`.

    Args:
        columns: the requests.
    """
    return InputSpec(
        item_ids=len(columns.items), item_numeric=0, item_category=0, item_category_width=0,
        user_ids=len(columns.users), user_numeric=0, user_category=0, user_category_width=0,
        candidate_features=columns.candidate_features.shape[1], has_score=True, kinds=columns.kinds,
    )  # fmt: skip


@dataclass
class Models:
    """Requests, and models with the same encoder sizes that are compared on them.

    Attributes:
        sizes: the sizes.
        columns: the requests.
        generator: GoalRank's generator.
        prm: PRM.
        reward: the reward model.
    """

    sizes: Sizes
    columns: EncodedRequests
    generator: Generator
    prm: PRM
    reward: ListReward


def make_models(sizes: Sizes, requests: int = 512, reward_layers: int = 0) -> Models:
    """Make models with random weights; the reward model has the same width.

    Args:
        sizes: the sizes.
        requests: number of requests.
        reward_layers: layers of the reward model; 0 as in the default recipe.
    """
    torch.manual_seed(0)
    columns = make_columns(sizes, requests)
    spec = spec_of(columns)
    encoder = EncoderSizes(width=sizes.width, layers=sizes.layers, heads=sizes.heads)
    reward = ListReward(
        spec, replace(encoder, layers=reward_layers), columns.kinds, [1.0], slots=sizes.slots
    )
    return Models(
        sizes, columns, Generator(spec, encoder, sizes.slots).eval(), PRM(spec, encoder).eval(),
        reward.eval().requires_grad_(False),
    )  # fmt: skip


def group_of(lists: int) -> GroupConfig:
    """Scale the default mixture of sources, which has 20 lists.

    Args:
        lists: G.
    """
    default = GroupConfig()
    rest = {name: round(getattr(default, name) * lists / 20) for name in ("light", "heuristic",
            "perturbed", "logged", "random")}  # fmt: skip
    rest["logged"] = min(rest["logged"], 1)
    return GroupConfig(own=max(lists - sum(rest.values()), 1), **rest)


def group_task(models: Models) -> GroupTask:
    """Make GoalRank's training task; the light model's scores are cached, as in a job.

    Args:
        models: of `make_models`.
    """
    sizes = models.sizes
    groups = GroupBuilder(
        group_of(sizes.lists), sizes.slots, [CachedScores(models.prm, models.columns)]
    )
    task = GroupTask(
        models.generator, LoopConfig(batch_size=sizes.batch), 0,
        reward=models.reward, groups=groups, objective=ObjectiveConfig(),
    )  # fmt: skip
    return task


def prm_task(models: Models) -> SupervisedTask:
    """Make PRM's training task.

    Args:
        models: of `make_models`.
    """
    return SupervisedTask(
        models.prm, LoopConfig(batch_size=models.sizes.batch), 0, models.sizes.slots
    )


def make_step(
    task: Task[Any],
    columns: EncodedRequests,
    batch_size: int,
    loss: Callable[[Batch], torch.Tensor] | None = None,
) -> Callable[[], None]:
    """Make a function that runs one optimiser step on the next batch.

    Args:
        task: the task.
        columns: training requests.
        batch_size: requests per batch.
        loss: batch → loss; None takes that of the task.
    """
    task.log = task.log_dict = lambda *_, **__: None  # type: ignore[assignment,method-assign]
    optimizer = task.configure_optimizers()["optimizer"]
    order = columns.order(batch_size, seed=0)
    order = [rows for rows in order if len(rows) == batch_size]
    count = iter(range(10**9))
    task.train()

    def step() -> None:
        i = next(count)
        batch = columns.batch(order[i % len(order)])
        optimizer.zero_grad(set_to_none=True)
        value = task.training_step(batch, i) if loss is None else loss(batch)
        assert isinstance(value, torch.Tensor)
        value.backward()
        torch.nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
        optimizer.step()

    return step
