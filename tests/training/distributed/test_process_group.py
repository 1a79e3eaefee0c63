"""What a process knows of its place, and what all must agree on, without starting any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from goalrank.encoders import IdTable, block_of, deferred_tables
from goalrank.encoders import id_table as tables
from goalrank.errors import ConfigError, DataError
from goalrank.requests import Requests, read_shard
from goalrank.training import RunOptions
from goalrank.training.distributed import process_group as group
from goalrank.training.loop.batch_stream import PartStream
from goalrank.training.loop.tensors import write_tensors
from tests.helpers import make_columns
from tests.tables import make_table

OPTIONS = RunOptions(Path("out"))


@pytest.fixture
def eight(monkeypatch):
    """As if torchrun had started this process as the first of 2 machines of 4."""
    numbers = {"RANK": 0, "WORLD_SIZE": 8, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 4}
    for name, number in numbers.items():
        monkeypatch.setenv(name, str(number))
    return monkeypatch


def test_numbers_come_from_torchrun(eight):
    resolved = group.resolve_options(OPTIONS)
    assert (resolved.nodes, resolved.devices, resolved.resume) == (2, 4, False)
    eight.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert group.resolve_options(OPTIONS).resume
    assert group.is_first()
    eight.setenv("RANK", "3")
    assert not group.is_first()


def test_other_numbers_than_torchruns_are_refused(eight):
    with pytest.raises(ConfigError, match="is 32, but torchrun started 8"):
        group.resolve_options(replace(OPTIONS, nodes=4, devices=8))
    with pytest.raises(ConfigError, match=r"strategy 'deepspeed'.*--strategy ddp"):
        group.resolve_options(replace(OPTIONS, strategy="deepspeed"))
    eight.setattr(torch.distributed, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"without torch\.distributed"):
        group.resolve_options(OPTIONS)


def test_machines_need_torchrun():
    with pytest.raises(ConfigError, match="torchrun --nnodes 4"):
        group.resolve_options(replace(OPTIONS, nodes=4))
    assert group.resolve_options(OPTIONS).nodes == 1


def test_what_differs_between_processes_is_named(monkeypatch):
    monkeypatch.setattr(group, "is_distributed", lambda: True)
    monkeypatch.setattr(group, "gather_bytes", lambda mine: [mine, mine[:32] + b"x" * 32, mine])
    with pytest.raises(DataError, match=r"training data of processes \[1\]"):
        group.check_equal({"settings": "a", "training data": b"b"})
    with pytest.raises(ConfigError, match=r"settings of processes \[1\]"):
        group.check_equal({"versions": "a", "settings": "b"})
    group.check_equal({"settings": "a"})


@given(st.integers(1, 30), st.integers(1, 6))
def test_blocks_cover_every_row_once(rows, ranks):
    blocks = [block_of(rows, rank, ranks) for rank in range(ranks)]
    assert [r for first, last in blocks for r in range(first, last)] == list(range(rows))
    sizes = [len(part) for part in torch.arange(rows).chunk(ranks)]  # what Shard(0) does
    assert [last - first for first, last in blocks if last > first] == sizes


def test_large_tables_are_drawn_alike_in_parts(monkeypatch):
    monkeypatch.setattr(tables, "LARGE", 50)
    monkeypatch.setattr(tables, "_BLOCK", 16)
    torch.manual_seed(3)
    whole = IdTable(70, 4)
    torch.manual_seed(3)
    with deferred_tables():
        later = IdTable(70, 4)
    assert later.weight.is_meta
    parts = [later._drawn(*block_of(70, rank, 3)) for rank in range(3)]
    assert torch.equal(torch.cat(parts), whole.weight)
    assert whole.weight[0].eq(0).all()
    assert 0.01 < whole.weight.std() < 0.03


def test_tensors_file_is_what_others_read(tmp_path):
    tensors = {
        "a": torch.randn(5, 3), "b": torch.tensor(2.5), "c": torch.arange(4).to(torch.bfloat16),
        "d": torch.zeros(0, 2), "e": torch.tensor([True, False]), "f": torch.randn(3, 4).t(),
    }  # fmt: skip
    write_tensors(tmp_path / "file", tensors)
    found = load_file(tmp_path / "file")
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


@given(st.integers(1, 4), st.integers(1, 9))
def test_parts_of_a_batch_weigh_what_they_hold(ranks, batch_size):
    columns = [make_columns(5 + r % 2, 4) for r in range(ranks)]
    sizes = [len(c) for c in columns]
    if batch_size < ranks:
        return
    steps = [list(PartStream(columns[r], sizes, batch_size, 3, 0, 6, r)) for r in range(ranks)]
    for shares in zip(*steps, strict=True):
        given_rows = [s.batch.size for s in shares]
        assert sum(s.share for s in shares) == pytest.approx(ranks)
        for s, count in zip(shares, given_rows, strict=True):
            assert s.share == pytest.approx(ranks * count / sum(given_rows))


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_processes_read_even_shares_of_uneven_shards(tmp_path, ranks):
    table = make_table(23)
    for first, last in ((0, 2), (2, 17), (17, 23)):
        Requests.append(tmp_path / "shards", table.take(range(first, last)))
    parts = [read_shard(tmp_path / "shards", rank, ranks) for rank in range(ranks)]
    ids = [i for part in parts for i in part.frame["request_id"]]
    assert ids == table.frame["request_id"].to_list()
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_missing_and_damaged_shards_are_named(tmp_path):
    table = make_table(9)
    for first in (0, 3, 6):
        Requests.append(tmp_path / "shards", table.take(range(first, first + 3)))
    files = sorted((tmp_path / "shards").glob("part-*.parquet"))
    names = "\n".join(f"{file.name}\t3" for file in files[:2]).encode()
    with pytest.raises(DataError, match=rf"\[1\] lack shard '{files[2].name}'.*remedy"):
        read_shard(tmp_path / "shards", 0, 2, lambda mine: [mine, names])
    files[1].write_bytes(files[1].read_bytes()[:-50])
    with pytest.raises(DataError, match=rf"{files[1].name}.*remedy"):
        read_shard(tmp_path / "shards", 0, 2)
