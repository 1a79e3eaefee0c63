"""Checkpoints: what went in comes out; what is damaged is refused."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.errors import BundleError
from goalrank.training.loop.checkpoint import SafeCheckpointIO

KEYS = st.text(max_size=5) | st.integers(-5, 5)
LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6)
)
NESTED = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(st.dictionaries(KEYS, NESTED, max_size=4))
@settings(max_examples=50, deadline=None)
def test_plain_state_round_trip(tmp_path_factory, state):
    path = tmp_path_factory.mktemp("c") / "one.ckpt"
    SafeCheckpointIO().save_checkpoint(state, path)
    assert same(SafeCheckpointIO().load_checkpoint(path), state)


def test_tensors_round_trip(tmp_path: Path):
    shared = torch.arange(6.0)
    state: dict[str, Any] = {
        "state_dict": OrderedDict(a=shared, b=shared, c=torch.randn(3, 4).t()),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}, 1: {}}, "groups": [(0.9, 0.98)]},
        "@tensor": "a name of ours",
        "flags": [torch.tensor([True, False]), torch.zeros(0), torch.ones(2, dtype=torch.bfloat16)],
    }
    path = tmp_path / "one.ckpt"
    SafeCheckpointIO().save_checkpoint(state, path)
    got = SafeCheckpointIO().load_checkpoint(path)
    for name in "abc":
        assert torch.equal(got["state_dict"][name], state["state_dict"][name])
    assert float(got["optimizer"]["state"][0]["step"]) == 3.0
    assert got["optimizer"]["state"][1] == {}
    assert got["optimizer"]["groups"] == [(0.9, 0.98)]
    assert got["@tensor"] == "a name of ours"
    for mine, theirs in zip(got["flags"], state["flags"], strict=True):
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine, theirs)


def test_saving_again_replaces_and_leaves_no_rubbish(tmp_path: Path):
    io, path = SafeCheckpointIO(), tmp_path / "one.ckpt"
    for step in range(3):
        io.save_checkpoint({"step": step, "w": torch.full((step + 1,), float(step))}, path)
    assert io.load_checkpoint(path)["step"] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["one.ckpt"]
    io.remove_checkpoint(path)
    assert not path.exists()


def test_a_save_that_fails_leaves_the_old_checkpoint(tmp_path: Path):
    io, path = SafeCheckpointIO(), tmp_path / "one.ckpt"
    io.save_checkpoint({"step": 1}, path)
    with pytest.raises(BundleError, match="set"):
        io.save_checkpoint({"step": {1, 2}}, path)
    assert io.load_checkpoint(path) == {"step": 1}


def test_stopped_between_the_renames(tmp_path: Path):
    io, path = SafeCheckpointIO(), tmp_path / "one.ckpt"
    io.save_checkpoint({"step": 1}, path)
    path.rename(tmp_path / ".one.ckpt.old")
    assert io.load_checkpoint(path) == {"step": 1}


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


DAMAGES = {
    "cut tensors": lambda p: _cut(p / "tensors.safetensors"),
    "no tensors": lambda p: (p / "tensors.safetensors").unlink(),
    "cut state": lambda p: _cut(p / "state.json"),
    "no state": lambda p: (p / "state.json").unlink(),
    "not a state": lambda p: (p / "state.json").write_text("[1, 2]"),
    "unknown mark": lambda p: (p / "state.json").write_text('{"a": 1, "b": 2}'),
    "another tensor": lambda p: (p / "state.json").write_text(
        json.dumps({"@dict": [["w", {"@tensor": "t99"}]]})
    ),
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_damage_is_refused(damage, tmp_path: Path):
    path = tmp_path / "one.ckpt"
    SafeCheckpointIO().save_checkpoint({"w": torch.ones(4), "step": 3}, path)
    DAMAGES[damage](path)
    with pytest.raises(BundleError, match="remedy"):
        SafeCheckpointIO().load_checkpoint(path)


def test_absent_is_refused(tmp_path: Path):
    with pytest.raises(BundleError, match="cannot be read"):
        SafeCheckpointIO().load_checkpoint(tmp_path / "none.ckpt")
