"""Slot groups in training: as often as asked, and enough on their own to learn the best list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from goalrank.rankers import Ranker
from goalrank.rewards import ObservedGain
from goalrank.training import (
    Group,
    GroupBuilder,
    GroupConfig,
    GroupTask,
    LoopConfig,
    ObjectiveConfig,
    RunOptions,
    run_stage,
)
from tests.rankers.kit import make_ranker, rich_columns

TRAIN = rich_columns(16, 7, seed=1)
SLOTS = 4


@dataclass
class Counting(GroupBuilder):
    """Counts the groups of lists that were built."""

    built: int = 0

    def __call__(self, *args: Any) -> Group:
        self.built += 1
        return super().__call__(*args)


def trained(policy: str, steps: int, folder: Path, **objective: Any) -> tuple[Ranker, int]:
    groups = Counting(GroupConfig(light=0), SLOTS)
    loop = LoopConfig(steps=steps, batch_size=8, lr=5e-3, warmup=5, validate_every=steps)
    task = GroupTask(
        make_ranker(policy, TRAIN).train(), loop, 0, reward=ObservedGain(), groups=groups,
        objective=ObjectiveConfig(temperature=0.2, **objective),
    )  # fmt: skip
    options = RunOptions(folder, progress=False, accelerator="cpu", devices=1)
    run_stage(task, TRAIN, None, options)
    return task.model.eval(), groups.built


@pytest.mark.parametrize(
    ("share", "name", "least", "most"),
    [
        (0.0, "group_relative", 40, 40),
        (0.5, "group_relative", 10, 30),
        (1.0, "group_relative", 0, 0),
        (1.0, "reinforce", 40, 40),  # its lists must be the policy's own
    ],
)
def test_as_often_as_asked(share, name, least, most, tmp_path: Path):
    _, built = trained("goalrank", 40, tmp_path, slot_group_share=share, name=name)
    assert least <= built <= most


@pytest.mark.parametrize("policy", ["goalrank", "prm", "seq2slate"])
def test_slot_groups_alone_teach_the_best_list(policy, tmp_path: Path):
    ranker, _ = trained(policy, 150, tmp_path, slot_group_share=1.0)
    batch, gain = TRAIN.batch(slice(None)), ObservedGain()
    best = make_ranker("random", TRAIN).propose(batch, 4000, SLOTS, torch.Generator()).lists
    most = gain(batch, best).amax(1)
    start = gain(batch, make_ranker(policy, TRAIN).rank(batch, SLOTS)[:, None]).squeeze(1)
    with torch.no_grad():
        found = gain(batch, ranker.rank(batch, SLOTS)[:, None]).squeeze(1)
    assert start.sum() < 0.9 * most.sum()
    assert found.sum() > 0.97 * most.sum()
