"""Sampled tables: valid, reproducible, streamed or not, and true to the world."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

from goalrank.errors import ConfigError, DataError
from goalrank.requests import Requests
from goalrank.worlds import EPOCH_US, DrawnRequests, PlantedWorld, World, drawn_table
from goalrank.worlds.sampling.request_draws import draw_requests
from goalrank.worlds.sampling.sampler import BLOCK
from tests.worlds.conftest import rich


def stacked(lists: pl.Series) -> NDArray[Any]:
    """A column of lists of one length as a matrix."""
    return np.stack(list(lists.to_numpy()))


class Fixed:
    """A policy from outside: the retriever's first slots, looked up through the table."""

    name = "fixed"

    def __call__(
        self, world: PlantedWorld, drawn: DrawnRequests, generator: torch.Generator
    ) -> tuple[torch.Tensor, None]:
        table = drawn_table(drawn)
        assert table.validate() == []
        assert table.frame["shown"].list.len().sum() == 0
        scores = stacked(table.frame["candidate_score"])
        return torch.from_numpy(np.argsort(-scores, axis=1)[:, :2].copy()), None


def test_table_is_valid_and_described() -> None:
    world = World(rich(vector_features=True, user_features=True, name="w"))
    table = world.sample(300, seed=1)
    assert table.validate() == []
    assert table.info.dataset == "w"
    assert table.info.feedback_kinds == ("click", "long_view")
    assert table.info.target == "click"
    assert table.items is not None
    assert table.items.columns == ["item_id", "cluster", "log_popularity", "vector"]
    assert table.users is not None
    assert table.users.height == 30
    frame = table.frame
    assert frame["candidates"].list.n_unique().unique().to_list() == [6]
    assert frame["shown"].list.n_unique().unique().to_list() == [3]
    assert frame["time"].is_sorted()
    assert frame["propensity"].is_between(0, 1).all()
    history = frame["history"].list.len()
    assert (history.min(), history.max()) == (2, 4)


def test_same_seed_gives_the_same_table_and_rounds_continue() -> None:
    world, twin = World(rich()), World(rich())
    assert world.sample(50, seed=3).frame.equals(twin.sample(50, seed=3).frame)
    assert not world.sample(50, seed=3).frame.equals(world.sample(50, seed=4).frame)
    assert not world.sample(50).frame.equals(World(rich(seed=1)).sample(50).frame)
    later = world.sample(50, seed=4, first=50).frame
    assert later["time"].min() > world.sample(50, seed=3).frame["time"].max()  # type: ignore
    assert later["request_id"][0] == "world-50"
    started = world.sample(1, start_time=datetime(2025, 5, 1, tzinfo=UTC)).frame["time"][0]
    assert started == datetime(2025, 5, 1, tzinfo=UTC)


def test_streamed_rows_are_the_sampled_rows(tmp_path: Path) -> None:
    world = World(rich(vector_features=True))
    steps: list[int] = []
    path = world.sample_to(tmp_path / "log", 5000, seed=2, shard_rows=1500, progress=steps.append)
    assert steps == [1500, 3000, 4500, 5000]
    read, made = Requests.read(path), world.sample(5000, seed=2)
    assert read.frame.equals(made.frame)
    assert read.info == made.info
    assert read.items is not None
    assert made.items is not None
    assert read.items.equals(made.items)
    assert [len(s) for s in Requests.iter_shards(path, 2000)] == [2000, 2000, 1000]


def test_blocks_differ_and_the_history_ends_with_its_latest_event() -> None:
    world = World(rich(users=1000))
    users = world.sample(2 * BLOCK).frame["user_id"].to_numpy()
    assert (users[:BLOCK] != users[BLOCK:]).mean() > 0.9
    drawn = draw_requests(world, 0, 50, EPOCH_US, torch.Generator().manual_seed(0))
    frame = drawn_table(drawn).frame
    assert frame["history"].list.last().to_list() == drawn.history[:, -1].tolist()
    assert frame["history"].list.len().to_list() == drawn.history_length.tolist()


def test_a_failed_stream_leaves_nothing(tmp_path: Path) -> None:
    def stop(written: int) -> None:
        raise KeyboardInterrupt

    world = World(rich())
    with pytest.raises(KeyboardInterrupt):
        world.sample_to(tmp_path / "log", 100, shard_rows=10, progress=stop)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "log").mkdir()
    with pytest.raises(DataError, match="exists"):
        world.sample_to(tmp_path / "log", 10)
    with pytest.raises(DataError, match="folder"):
        world.sample_to(tmp_path / "log.parquet", 10)
    with pytest.raises(ConfigError, match="shard_rows=0"):
        world.sample_to(tmp_path / "new", 10, shard_rows=0)
    with pytest.raises(ConfigError, match="requests=0"):
        world.sample(0)
    with pytest.raises(ConfigError, match="time zone"):
        world.sample(1, start_time=datetime(2025, 5, 1))


def test_feedback_in_the_table_has_the_true_mean() -> None:
    world = World(rich(drift=0.2, season=0.5, requests_per_day=1000))
    frame = world.sample(6000, seed=5).frame
    users = torch.from_numpy(frame["user_id"].to_numpy().copy())
    items = torch.from_numpy(stacked(frame["candidates"]))
    shown = torch.from_numpy(stacked(frame["shown"])).long()
    days = torch.from_numpy((frame["time"].dt.timestamp("us").to_numpy() - EPOCH_US) / 86.4e9)
    want = world.slot_probabilities(users, items, shown[:, None], days)[:, 0]
    for k, kind in enumerate(("click", "long_view")):
        feedback = stacked(frame["feedback"].struct.field(kind))
        got = torch.from_numpy(feedback).double()
        error = (want[..., k] * (1 - want[..., k])).sum(dim=0).sqrt() / 6000
        assert bool(((got - want[..., k]).mean(dim=0).abs() < 4 * error).all())


def test_retrieval_prefers_liked_and_popular_items() -> None:
    biased = World(rich(items=3000, popularity_bias=1.0, retriever_sharpness=1.0))
    generator = torch.Generator().manual_seed(0)
    drawn = draw_requests(biased, 0, 500, EPOCH_US, generator)
    assert int(drawn.items.sort(dim=1).values.diff(dim=1).min()) > 0
    anything = torch.randint(3000, (500, 6), generator=generator)
    taste = biased.user_vectors(drawn.users, drawn.days)
    liked = biased.logits(taste, drawn.items).mean() - biased.logits(taste, anything).mean()
    assert float(liked) > 0.3
    assert (
        float(biased.popularity_score[drawn.items].mean())
        > float(biased.popularity_score[anything].mean()) + 0.3
    )


def test_any_policy_can_fill_the_log() -> None:
    table = World(rich()).sample(40, policy=Fixed())
    assert table.frame["policy"].unique().to_list() == ["fixed"]
    assert "propensity" not in table.frame.columns
    assert table.frame["shown"].list.len().unique().to_list() == [2]
    best = table.frame["candidate_score"].list.arg_max()
    assert (table.frame["shown"].list.first() == best.cast(pl.Int32)).all()


def test_a_policy_of_the_wrong_shape_is_named() -> None:
    class Broken:
        name = "broken"

        def __call__(self, *_: object) -> tuple[torch.Tensor, None]:
            return torch.zeros(3, 1, 2, dtype=torch.int64), None

    with pytest.raises(DataError, match="broken"):
        World(rich()).sample(3, policy=Broken())
