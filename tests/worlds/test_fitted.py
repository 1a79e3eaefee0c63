"""Worlds on a real log's factors: two camps of users who consume two halves of the catalogue."""

from __future__ import annotations

import hashlib
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from goalrank.errors import ConfigError, DataError, MissingExtraError
from goalrank.requests import Requests, TableInfo
from goalrank.worlds import World, WorldConfig, describe, fit_world
from tests.tables import NOON, make_table

_LIKE = WorldConfig(candidates=6, slots=3, clusters=2, tastes=1, fatigue=0.5, scale=3.0)
_ITEMS, _USERS = 40, 60


def camps(*, felt: bool = True, answered: bool = True) -> Requests:
    """Even users consume even items, odd ones odd items; low numbers more often than high ones.

    Of the candidates the first is of the user's camp and liked, the second is not.

    Args:
        felt: whether `history_feedback` is there.
        answered: whether anything was shown.
    """
    rng = np.random.default_rng(0)
    frame: dict[str, list[Any]] = {}
    for user in range(_USERS):
        own = np.arange(user % 2, _ITEMS, 2)
        weight = 1.0 / (1.0 + np.arange(len(own)))
        eaten = rng.choice(own, 8, replace=False, p=weight / weight.sum()).tolist()
        left = int(next(i for i in own if i not in eaten))
        row = {
            "request_id": f"r{user}",
            "user_id": 100 + user,
            "time": NOON + timedelta(hours=user),
            "history": eaten,
            "history_feedback": [1.0] * len(eaten) if felt else [],
            "candidates": [left, (left + 1) % _ITEMS],
            "shown": [0, 1] if answered else [],
            "feedback": {"click": [1.0, 0.0] if answered else []},
        }
        for name, value in row.items():
            frame.setdefault(name, []).append(value)
    info = TableInfo(dataset="camps", protocol="exposed", feedback_kinds=("click",), target="click")
    types = {
        "history_feedback": pl.List(pl.Float32),
        "shown": pl.List(pl.Int32),
        "feedback": pl.Struct({"click": pl.List(pl.Float32)}),
    }
    return Requests(pl.DataFrame(frame, schema_overrides=types), info=info)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit_world([camps()], _LIKE, tmp_path_factory.mktemp("fitted") / "camps", width=4).path


def test_preferences_similarity_and_popularity_are_those_of_the_log(fitted: Path) -> None:
    world = World(WorldConfig.load(fitted))
    assert (world.config.name, world.config.users, world.config.items) == ("camps", _USERS, _ITEMS)
    even = (torch.arange(_ITEMS) % 2 == 0).double()
    # A camp's mean taste for each item, against whether the item is the camp's.
    for camp in (0, 1):
        taste = world.latents.users[camp::2].mean(0) @ world.latents.items.T
        own = even if camp == 0 else 1 - even
        assert (taste * own).sum() / own.sum() > 5 * ((taste * (1 - own)).sum() / own.sum()).abs()
    # Clusters are the camps, but for items that hardly anybody consumed.
    mass = world.latents.popularity * (2 * (world.latents.cluster == 1).double() - 1)
    shares = [
        float(mass[camp::2].sum() / world.latents.popularity[camp::2].sum()) for camp in (0, 1)
    ]
    assert min(shares) < -0.8
    assert max(shares) > 0.8
    counts = torch.zeros(_ITEMS, dtype=torch.float64)
    for row in camps().frame.iter_rows(named=True):
        counts[row["history"] + row["candidates"][:1]] += 1
    wanted = (counts + 1) / (counts + 1).sum()
    assert torch.allclose(world.latents.popularity, wanted)


def test_users_respond_as_in_the_given_world(fitted: Path) -> None:
    config = WorldConfig.load(fitted)
    answers = {"candidates", "slots", "clusters", "fatigue", "scale", "logging", "kinds"}
    same = answers | {"examination"}
    assert config.model_dump(include=same) == _LIKE.model_dump(include=same)
    rows = describe(World(config), 128).rows
    assert rows["random"].reward < rows["true pointwise sort"].reward <= rows["near-optimum"].reward


def test_the_same_log_gives_the_same_world(fitted: Path, tmp_path: Path) -> None:
    again = fit_world([camps()], _LIKE, tmp_path / "camps", width=4)
    assert again.path.read_text() == fitted.read_text()
    assert (again.users, again.items) == (_USERS, _ITEMS)
    assert again.pairs == 9 * _USERS
    assert again.preferred > 0.8  # half of the random items are of the user's own camp
    one, two = World(WorldConfig.load(fitted)), World(WorldConfig.load(again.path))
    assert one.sample(50, seed=1).frame.equals(two.sample(50, seed=1).frame)
    other = fit_world([camps()], _LIKE, tmp_path / "other", width=4, name="camps", seed=1)
    assert other.path.read_text() != fitted.read_text()


@pytest.mark.parametrize(("felt", "answered"), [(False, True), (True, False), (False, False)])
def test_histories_and_feedback_both_count(felt: bool, answered: bool, tmp_path: Path) -> None:
    made = fit_world([camps(felt=felt, answered=answered)], _LIKE, tmp_path / "w", width=4)
    assert made.pairs == (9 if answered else 8) * _USERS


def test_items_without_positive_feedback_do_not_count(tmp_path: Path) -> None:
    table = make_table(60)
    pairs = fit_world([table], _LIKE, tmp_path / "w", width=4).pairs
    frame = table.frame
    seen = {(u, i) for u, h in zip(frame["user_id"], frame["history"]) for i in h}
    liked = {
        (row["user_id"], row["candidates"][at])
        for row in frame.iter_rows(named=True)
        for at, click in zip(row["shown"], row["feedback"]["click"])
        if click > 0
    }
    assert pairs == len(seen | liked)
    everything = {(u, i) for u, c in zip(frame["user_id"], frame["candidates"]) for i in c}
    assert pairs < len(seen | everything)


def test_settings_of_a_planted_world_leave_factors_out() -> None:
    assert "factors" not in WorldConfig().model_dump()
    assert "factors" not in WorldConfig().model_dump(mode="json")


def test_settings_do_not_depend_on_the_folder(fitted: Path) -> None:
    config = WorldConfig.load(fitted)
    assert config.model_dump(mode="json")["factors"]["file"] == "factors.safetensors"
    assert config.factors is not None
    assert config.factors.file == fitted.parent / "factors.safetensors"


def test_sizes_that_are_not_the_factors_are_refused(fitted: Path, tmp_path: Path) -> None:
    copy = _copy(fitted, tmp_path)
    copy.write_text(copy.read_text().replace(f"users = {_USERS}", "users = 7"))
    with pytest.raises(ConfigError, match="users, items and dim"):
        World(WorldConfig.load(copy))


def test_other_factors_are_refused(fitted: Path, tmp_path: Path) -> None:
    copy = _copy(fitted, tmp_path)
    factors = copy.parent / "factors.safetensors"
    parts = load_file(factors)
    save_file({**parts, "users": parts["users"] + 1}, factors)
    with pytest.raises(DataError, match=r"factors\.sha256"):
        World(WorldConfig.load(copy))
    factors.unlink()
    with pytest.raises(DataError, match=r"cannot be read.*factors\.file"):
        World(WorldConfig.load(copy))


@pytest.mark.parametrize("content", [b"not safetensors", None])
def test_files_that_hold_no_factors_are_refused(
    fitted: Path, tmp_path: Path, content: bytes | None
) -> None:
    copy = _copy(fitted, tmp_path)
    factors = copy.parent / "factors.safetensors"
    before = hashlib.sha256(factors.read_bytes()).hexdigest()
    if content is None:
        save_file({"users": torch.zeros(2, 2)}, factors)
    else:
        factors.write_bytes(content)
    after = hashlib.sha256(factors.read_bytes()).hexdigest()
    copy.write_text(copy.read_text().replace(before, after))
    with pytest.raises(DataError, match=r"no safetensors|expected \['items'"):
        World(WorldConfig.load(copy))


def test_a_failed_fit_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "w"
    with pytest.raises(ConfigError, match="candidates"):
        fit_world([camps()], _LIKE.model_copy(update={"candidates": 41}), out, width=4)
    with pytest.raises(ConfigError, match="iterations=0"):
        fit_world([camps()], _LIKE, out, width=4, iterations=0)
    with pytest.raises(ConfigError, match="dim"):
        fit_world([camps()], _LIKE, out, width=1)
    empty = camps(answered=False)
    none = empty.frame.with_columns(
        pl.col("history").list.head(0), pl.col("history_feedback").list.head(0)
    )
    with pytest.raises(DataError, match="no preferences"):
        fit_world([Requests(none, info=empty.info)], _LIKE, out)
    assert not out.exists()


def test_a_world_is_not_overwritten(fitted: Path) -> None:
    before = fitted.read_text()
    with pytest.raises(DataError, match="--out"):
        fit_world([camps()], _LIKE, fitted.parent)
    assert fitted.read_text() == before


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    with pytest.raises(MissingExtraError, match="retrieval"):
        fit_world([camps()], _LIKE, tmp_path / "w", width=4)
    assert not (tmp_path / "w").exists()


def _copy(fitted: Path, to: Path) -> Path:
    for name in ("world.toml", "factors.safetensors"):
        (to / name).write_bytes((fitted.parent / name).read_bytes())
    return to / "world.toml"
