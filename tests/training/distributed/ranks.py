"""Stages of every kind, in one process or in several that torchrun would have started."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from goalrank.rankers import Generator, RankerConfig, build_ranker
from goalrank.rewards import ListReward, ObservedGain
from goalrank.training import (
    GroupBuilder,
    GroupConfig,
    GroupTask,
    LoopConfig,
    ObjectiveConfig,
    RewardTask,
    RunOptions,
    SupervisedTask,
    run_stage,
)
from goalrank.training.distributed.process_group import join_process_group, resolve_options
from goalrank.training.modules.pretraining import PretrainTask
from goalrank.training.modules.task import Task
from tests.rankers.kit import SMALL, make_ranker, rich_columns, spec_of

TRAIN = rich_columns(23, 6, seed=1)  # batches of 5, 5, 5, 5 and 3
VALIDATION = replace(rich_columns(10, 6, seed=2), items=TRAIN.items, users=TRAIN.users)
SIZES = replace(SMALL, dropout=0.0, id_dropout=0.0, user_ids=True)


class Case(NamedTuple):
    kind: str
    strategy: str = "ddp"
    shard_items: bool = False

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.strategy}{'-shard' if self.shard_items else ''}"


CASES = [
    *(Case(kind) for kind in ("generator", "prm", "nar4rec", "reward", "pretrain")),
    *(Case(kind, "ddp", True) for kind in ("generator", "prm", "reward", "pretrain")),
    *(Case(kind, "fsdp") for kind in ("generator", "reward")),
    *(Case(kind, "fsdp", True) for kind in ("generator", "prm")),
]


def make_task(kind: str, shard_items: bool = False, steps: int = 20) -> Task[Any]:
    torch.manual_seed(0)
    spec = spec_of(TRAIN)
    loop = LoopConfig(
        steps=steps, batch_size=5, lr=1e-3, warmup=2, validate_every=10,
        patience=0 if kind == "pretrain" else 9, shard_items=shard_items,
    )  # fmt: skip
    if kind == "pretrain":
        return PretrainTask(spec, SIZES, loop, 3)
    if kind == "reward":
        model = ListReward(spec, SIZES, TRAIN.kinds, [1.0] * len(TRAIN.kinds), slots=4)
        return RewardTask(model, loop, 3, slots=4, negative=False, lists=2)
    if kind == "generator":
        groups = GroupBuilder(GroupConfig(), 4, [make_ranker("dnn", TRAIN)])
        policy = Generator(spec, SIZES, 4).train()
        objective = ObjectiveConfig(supervised=0.5)
        return GroupTask(policy, loop, 3, reward=ObservedGain(), groups=groups, objective=objective)
    config = RankerConfig(name=kind, slots=4, width=16, layers=1, heads=2, dropout=0.0,
                          id_dropout=0.0, user_ids=True, id_width=4)  # fmt: skip
    return SupervisedTask(build_ranker(spec, config).train(), loop, 3, 4)


def run(case: Case, folder: Path, several: bool) -> list[dict[str, float]]:
    options = RunOptions(
        folder / case.name, progress=False, accelerator="cpu",
        devices="auto" if several else 1, strategy=case.strategy if several else "auto",
    )  # fmt: skip
    if several:
        options = resolve_options(options)
        join_process_group(options)
    task = make_task(case.kind, case.shard_items)
    held = None if case.kind == "pretrain" else VALIDATION
    return run_stage(task, TRAIN, held, options)


def as_rank(rank: int, ranks: int, port: int, folder: Path, cases: list[Case]) -> None:
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0",
    }  # fmt: skip
    torch.set_num_threads(1)
    for case in cases:
        run(case, folder, several=True)
    torch.distributed.destroy_process_group()
