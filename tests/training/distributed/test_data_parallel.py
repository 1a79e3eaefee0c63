"""Two processes on one batch learn what one process learns."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.encoders import deferred_tables
from goalrank.encoders import id_table as tables
from goalrank.errors import ConfigError
from goalrank.rankers import Generator
from goalrank.requests import EncodedRequests
from goalrank.rewards import ObservedGain
from goalrank.training import (
    GroupBuilder,
    GroupConfig,
    GroupTask,
    LoopConfig,
    ObjectiveConfig,
    RunOptions,
    run_stage,
)
from goalrank.training.distributed.data_parallel import check_devices, check_shard
from goalrank.training.loop.batch_stream import BatchList, BatchStream
from tests.helpers import make_columns
from tests.rankers.kit import SMALL, make_ranker, rich_columns, spec_of
from tests.training.distributed.same import assert_same_weights

COLUMNS = make_columns(11, 4)


@given(st.integers(1, 11), st.integers(1, 4), st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_shares_make_up_the_batch(batch_size, ranks, seed):
    whole = list(BatchStream(COLUMNS, batch_size, seed, 0, 6))
    parts = [list(BatchStream(COLUMNS, batch_size, seed, 0, 6, r, ranks)) for r in range(ranks)]
    for step, (batch, _) in enumerate(whole):
        mine = [part[step] for part in parts]
        if ranks == 1:
            assert torch.equal(mine[0].batch.index, batch.index)
            assert mine[0].share is None
            continue
        shared = [(m.share, m.batch) for m in mine if m.share is not None]
        assert len(shared) == ranks
        rows = [b.index.tolist() for share, b in shared if share > 0]
        assert sorted(itertools.chain(*rows)) == sorted(batch.index.tolist())
        # The mean over processes of weighted means is the mean over the batch.
        value = sum(share * float(b.index.double().mean()) for share, b in shared) / ranks
        assert value == pytest.approx(float(batch.index.double().mean()))


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2])
def test_validation_requests_are_each_taken_once(ranks, size):
    lists = [list(BatchList(COLUMNS, size, r, ranks)) for r in range(ranks)]
    rows = [b.batch.index.tolist() for part in lists for b in part if b.share != 0]
    assert sorted(itertools.chain(*rows)) == list(range(11))
    lengths = {len(part) for part in lists}  # who has fewer keeps step with the others
    assert lengths == {len(BatchList(COLUMNS, size, r, ranks)) for r in range(ranks)}
    assert len(lengths) == 1


def test_more_devices_than_exist_are_refused():
    cores = os.cpu_count() or 1
    check_devices("cpu", cores)
    check_devices("auto", "auto")
    with pytest.raises(ConfigError, match=rf"devices={cores + 1}.*--devices {cores}"):
        check_devices("cpu", str(cores + 1))
    gpus = torch.cuda.device_count()
    with pytest.raises(ConfigError, match=f"devices={gpus + 1}"):
        check_devices("gpu", gpus + 1)
    with pytest.raises(ConfigError, match="1 request"):
        check_shard(1, 2)


def task(train: EncodedRequests, shard: bool, later: bool) -> GroupTask:
    torch.manual_seed(0)
    sizes = replace(SMALL, dropout=0.0, id_dropout=0.0)
    with deferred_tables(later):  # never whole before its rows are spread
        policy = Generator(spec_of(train), sizes, 4).train()
    groups = GroupBuilder(GroupConfig(), 4, [make_ranker("dnn", train)])
    loop = LoopConfig(steps=20, batch_size=5, lr=1e-3, warmup=2, validate_every=10, patience=9,
                      shard_items=shard)  # fmt: skip
    return GroupTask(
        policy, loop, 3, reward=ObservedGain(), groups=groups, objective=ObjectiveConfig()
    )


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
@pytest.mark.parametrize(("strategy", "shard"), [("ddp", False), ("fsdp", True)])
def test_two_processes_equal_one(tmp_path: Path, monkeypatch, strategy, shard):
    monkeypatch.setattr(tables, "LARGE", 4 if shard else 1 << 30)
    train = rich_columns(23, 6, seed=1)  # batches of 5, 5, 5, 5 and 3
    validation = replace(rich_columns(10, 6, seed=2), items=train.items, users=train.users)
    weights, scores, losses, start = [], [], [], {}
    for devices in (1, 2):
        one = task(train, shard, later=shard and devices > 1)
        assert any(p.is_meta for p in one.model.parameters()) is (shard and devices > 1)
        if devices == 1:
            start = {k: v.clone() for k, v in one.model.state_dict().items()}
        options = RunOptions(
            tmp_path / str(devices), progress=False, accelerator="cpu", devices=devices,
            strategy=strategy if devices > 1 else "auto",
        )  # fmt: skip
        rows = run_stage(one, train, validation, options)
        weights.append(one.model.state_dict())
        scores.append([row["val_score"] for row in rows if "val_score" in row])
        losses.append([row["loss"] for row in rows if "loss" in row])
    assert any(not torch.equal(start[k], v) for k, v in weights[0].items())
    assert len(scores[0]) == len(losses[0]) == 2
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert scores[1] == pytest.approx(scores[0], abs=1e-5)
    assert_same_weights(weights[1], weights[0])
