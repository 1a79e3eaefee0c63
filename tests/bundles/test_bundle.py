"""Bundles: an exact round trip for every ranker and reward, and no damage goes unnoticed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from goalrank.bundles import FORMAT_VERSION, Bundle
from goalrank.bundles.bundle import _made
from goalrank.errors import BundleError
from goalrank.rankers import RankerConfig, build_ranker
from goalrank.requests import Encoder, Requests, save_encoder
from goalrank.rewards import ObservedGain, Reward, Weighted
from goalrank.testing import shake
from tests.bundles.kit import make_bundle, make_reward
from tests.tables import make_table


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"causal": False, "slot_weights": [1.0, 0.6, 0.5]},
        {"list_layers": 0, "relations": 0, "positions": False},
        {"list_layers": 2, "relations": 2},
        {"link": "product"},
    ],
)
def test_list_rewards_survive_saving(tmp_path, arguments):
    bundle = make_bundle(reward=False)
    bundle.reward = make_reward(bundle.encoder, **arguments)
    assert_same_reward(bundle, tmp_path)


_MORE = (10**8, 10**6)  # numbers that no machine has room for


@pytest.mark.parametrize(
    "take",
    [
        lambda: torch.empty(*_MORE),
        lambda: torch.zeros(_MORE),
        lambda: torch.ones(size=_MORE),
        lambda: torch.full(_MORE, 1.0),
        lambda: torch.randn(_MORE[0], _MORE[1]) * 0.02,
        lambda: nn.Linear(*_MORE).weight,
        lambda: nn.Embedding(*_MORE).weight,
    ],
    ids=["empty", "zeros", "ones", "full", "randn", "linear", "embedding"],
)
def test_weights_of_other_sizes_are_refused_before_memory_is_taken(tmp_path, take):
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(take())

    save_file({"weight": torch.zeros(3)}, tmp_path / "weights")
    with pytest.raises(BundleError, match="they are 3 numbers for 100,000,000,000,000"):
        _made(Wide, tmp_path / "weights")


def test_a_ranker_may_need_memory_for_more_than_its_weights(tmp_path):
    made: list[Tensor] = []

    class Working(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            made.append(torch.empty(20_000_000))
            self.weight = nn.Parameter(torch.zeros(3))

    save_file({"weight": torch.zeros(3)}, tmp_path / "weights")
    assert isinstance(_made(Working, tmp_path / "weights"), Working)
    assert [each.device.type for each in made] == ["meta", "cpu"]


def test_rewards_made_of_rewards_survive_saving(tmp_path):
    bundle = make_bundle()
    assert_same_reward(bundle, tmp_path / "ensemble")
    assert bundle.reward is not None
    bundle.reward = Weighted([bundle.reward, ObservedGain()], [0.5, 2.0])
    assert_same_reward(bundle, tmp_path / "weighted")


def assert_same_reward(bundle: Bundle, folder: Path) -> None:
    bundle.save(folder)
    again = Bundle.load(folder)
    assert bundle.reward is not None
    assert again.reward is not None
    batch = bundle.encoder.encode(make_table(20, seed=2)).batch(slice(0, 20))
    lists = bundle.ranker.rank(batch, 4).unsqueeze(1)
    with torch.inference_mode():
        assert torch.equal(again.reward(batch, lists), bundle.reward(batch, lists))


def test_a_strange_reward_is_refused(tmp_path):
    class Mine(Reward):
        def forward(self, batch, lists):
            return lists.sum(-1)

    bundle = make_bundle()
    bundle.reward = Mine()
    with pytest.raises(BundleError, match="Mine"):
        bundle.save(tmp_path / "b")
    assert not any(tmp_path.iterdir())


def test_manifest_says_what_is_inside(tmp_path):
    bundle = make_bundle()
    bundle.save(tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["format"] == FORMAT_VERSION
    assert manifest["ranker"]["name"] == "goalrank"
    assert manifest["slots"] == 4
    assert manifest["torch"] == torch.__version__
    assert manifest["train"] == {"dataset": "small", "seeds": [0]}
    assert manifest["spec"]["item_ids"] == bundle.encoder.spec.item_ids
    files = {p.name for p in (tmp_path / "b").iterdir()} - {"manifest.json"}
    assert set(manifest["files"]) == files


def saved(tmp_path: Path) -> Path:
    return make_bundle().save(tmp_path / "b")


def test_any_changed_byte_is_noticed(tmp_path):
    folder = saved(tmp_path)
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 2):
            changed = bytearray(whole)
            changed[place] ^= 1
            file.write_bytes(bytes(changed))
            with pytest.raises(BundleError, match="remedy"):
                Bundle.load(folder)
        file.write_bytes(whole)
    Bundle.load(folder)


def test_any_missing_file_is_noticed(tmp_path):
    folder = saved(tmp_path)
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        file.unlink()
        with pytest.raises(BundleError, match=file.name.replace(".", r"\.")):
            Bundle.load(folder)
        file.write_bytes(whole)


def test_a_newer_format_asks_for_an_upgrade(tmp_path):
    folder = saved(tmp_path)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "format": FORMAT_VERSION + 1, "goalrank": "9.0"}))
    with pytest.raises(BundleError, match=r"goalrank 9\.0.*--upgrade"):
        Bundle.load(folder)


def test_no_bundle_there(tmp_path):
    with pytest.raises(BundleError, match="not a bundle"):
        Bundle.load(tmp_path)
    with pytest.raises(BundleError, match="not a bundle"):
        Bundle.load(tmp_path / "absent")


def test_output_folder_of_a_training_is_taken_for_its_bundle(tmp_path):
    make_bundle().save(tmp_path / "run" / "bundle")
    assert Bundle.load(tmp_path / "run").config.name == "goalrank"


def test_what_is_there_is_not_lost(tmp_path):
    folder = saved(tmp_path)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(BundleError, match="overwrite"):
        make_bundle("dnn").save(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    make_bundle("dnn").save(folder, overwrite=True)
    assert Bundle.load(folder).config.name == "dnn"
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    with pytest.raises(BundleError, match="not a bundle"):
        make_bundle().save(other, overwrite=True)
    assert (other / "letter.txt").read_text() == "dear"


def test_a_failed_save_leaves_the_old_bundle(tmp_path, monkeypatch):
    folder = saved(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("goalrank.bundles.bundle.save_file", full)
    with pytest.raises(BundleError, match="free space"):
        make_bundle("dnn").save(folder, overwrite=True)
    assert Bundle.load(folder).config.name == "goalrank"
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_settings_of_another_version_are_refused(tmp_path):
    bundle = make_bundle(reward=False)
    other = Encoder.fit(make_table(items=10))
    wrong = Bundle(bundle.ranker, bundle.config, other)
    wrong.save(tmp_path / "b")
    with pytest.raises(BundleError, match="do not fit"):
        Bundle.load(tmp_path / "b")


def test_ranker_is_in_evaluation_mode(tmp_path):
    bundle = make_bundle()
    bundle.ranker.train()
    again = Bundle.load(bundle.save(tmp_path / "b"))
    assert not any(m.training for m in again.ranker.modules() if isinstance(m, nn.Module))


VECTORS = pl.DataFrame(
    {
        "item_id": range(40),
        "price": [float(i % 7) for i in range(40)],
        "text": np.random.default_rng(0).normal(size=(40, 5)).tolist(),
    }
)


def save_old_encoder(encoder: Encoder, folder: Path) -> list[str]:
    names = save_encoder(encoder, folder)
    path = folder / "encoder.json"
    state = json.loads(path.read_text())
    del state["knows_vectors"]
    path.write_text(json.dumps(state))
    return names


@pytest.mark.parametrize("name", ["linear", "goalrank", "dnn"])
def test_a_bundle_whose_models_read_vectors_as_numbers_gives_its_old_lists(
    tmp_path, monkeypatch, name
):
    """Versions before similarities to the history wrote no word on vectors into encoder.json."""
    table = make_table(60)
    train = Requests(table.frame, items=VECTORS, info=table.info)
    encoder = replace(Encoder.fit(train), knows_vectors=False)
    assert encoder.spec.item_vectors == ()
    torch.manual_seed(0)
    config = RankerConfig(name=name, width=16, layers=1, heads=2, slots=4)
    ranker = build_ranker(encoder.spec, config)
    if ranker.closed_form:
        ranker.fit_closed_form(encoder.encode(train), None, 4, 0)
    else:
        shake(ranker)
    bundle = Bundle(ranker, config, encoder, None, {})
    monkeypatch.setattr("goalrank.bundles.bundle.save_encoder", save_old_encoder)
    folder = bundle.save(tmp_path / "b")
    again = Bundle.load(folder)
    assert again.encoder.spec.item_vectors == ()
    new = make_table(20, seed=1)
    assert again.rank(new).equals(bundle.rank(new))


def test_a_new_bundle_tells_its_models_of_vectors(tmp_path):
    table = make_table(60)
    bundle = make_bundle(train=Requests(table.frame, items=VECTORS, info=table.info))
    again = Bundle.load(bundle.save(tmp_path / "b"))
    assert again.encoder.spec == bundle.encoder.spec
    assert again.encoder.spec.item_vectors == (5,)
    new = make_table(20, seed=1)
    assert again.rank(new).equals(bundle.rank(new))
