"""Planting: determinism, fitted factors, clusters; measures; the truth as a Reward."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from goalrank.errors import ConfigError, DataError
from goalrank.requests import Encoder, EncoderConfig
from goalrank.worlds import (
    EPOCH_US,
    TrueReward,
    World,
    kl_divergence,
    measure,
    regret,
    share_exact,
)
from goalrank.worlds.world.latents import k_means
from tests.worlds.conftest import rich


def test_same_seed_gives_the_same_world() -> None:
    one, two, other = World(rich()), World(rich()), World(rich(seed=1))
    for field in fields(one.latents):
        assert torch.equal(getattr(one.latents, field.name), getattr(two.latents, field.name))
    assert not torch.equal(one.latents.items, other.latents.items)


def test_complement_is_one_cycle() -> None:
    complement = World(rich()).latents.complement.tolist()
    seen, at = [], 0
    for _ in complement:
        seen.append(at)
        at = complement[at]
    assert sorted(seen) == list(range(5))


def test_world_from_factors_has_their_size_and_preferences() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(4, dtype=torch.float64)
    group = torch.arange(60) % 4
    items = 7.0 * (centres[group] + 0.05 * torch.randn(60, 4, generator=generator))
    users = 0.1 * centres
    counts = torch.arange(60)
    world = World.from_factors(users, items, rich(clusters=4), popularity=counts)
    assert (world.config.users, world.config.items, world.config.dim) == (4, 60, 4)
    # k-means finds the planted groups, whatever their numbers.
    pairs = {(int(g), int(c)) for g, c in zip(group, world.latents.cluster, strict=True)}
    assert len(pairs) == len({c for _, c in pairs}) == 4
    logits = world.logits(world.user_vectors(torch.arange(4)), torch.arange(60).expand(4, 60))
    liked = logits - 0.5 * world.latents.quality
    assert group[liked.argmax(dim=1)].tolist() == [0, 1, 2, 3]
    assert bool((world.latents.popularity.diff() > 0).all())
    assert len(world.sample(20)) == 20


def test_from_factors_refuses_what_does_not_fit() -> None:
    good = torch.ones(50, 3)
    for users, items, counts in [
        (torch.ones(5, 2), good, None),
        (torch.empty(0, 3), good, None),
        (good, good * float("nan"), None),
        (good, good, torch.ones(4)),
        (good, good, -torch.ones(50)),
    ]:
        with pytest.raises(DataError, match="remedy"):
            World.from_factors(users, items, rich(), popularity=counts)
    with pytest.raises(ConfigError, match="items=5"):
        World.from_factors(good, good[:5], rich())
    with pytest.raises(ConfigError, match="from_factors"):
        World(rich(items=41), World(rich()).latents)


def test_k_means_of_identical_rows_does_not_break() -> None:
    labels = k_means(torch.ones(10, 3, dtype=torch.float64), 4, torch.Generator())
    assert labels.unique().numel() == 1


def test_measures() -> None:
    reward, best = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 4.0, 3.0])
    assert regret(reward, best).tolist() == [0.0, 2.0, 0.0]
    assert share_exact(reward, best) == pytest.approx(2 / 3)
    m = measure(reward, best)
    assert (m.reward, m.requests) == (2.0, 3)
    assert m.regret == pytest.approx(2 / 3)
    assert m.share_of_best == pytest.approx(6 / 8)
    assert m.standard_error == pytest.approx(1 / 3**0.5)
    with pytest.raises(DataError, match="regret"):
        regret(reward, best[:2])


def test_kl_divergence_by_hand() -> None:
    p = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]).log()
    q = torch.tensor([[0.25, 0.25, 0.5], [0.0, 0.5, 0.5]]).log()
    got = kl_divergence(p, q)
    assert float(got[0]) == pytest.approx(np.log(2.0))
    assert float(got[1]) == float("inf")
    assert kl_divergence(p, p).tolist() == [0.0, 0.0]


def test_true_reward_finds_its_requests_again() -> None:
    world = World(rich(drift=0.3, requests_per_day=20))
    train, test = world.sample(100, seed=1), world.sample(60, seed=2, first=100)
    encoder = Encoder.fit(train, EncoderConfig(min_count=3))
    columns = encoder.encode(test)
    reward = TrueReward(world, test, columns)
    rows = np.array([40, 3, 17])
    batch = columns.take(np.arange(59, -1, -1)).batch(59 - rows)
    lists = torch.tensor([[[0, 4, 2], [5, 1, -1]]]).expand(3, 2, 3)
    picked = test.frame[rows.tolist()]
    want = world.reward(
        torch.from_numpy(picked["user_id"].to_numpy().copy()),
        torch.from_numpy(np.stack(picked["candidates"].to_numpy())),
        lists,
        torch.from_numpy((picked["time"].dt.timestamp("us").to_numpy() - EPOCH_US) / 86.4e9),
    )
    got = reward(batch, lists)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(reward.float()(batch, lists), got, rtol=0, atol=0)
    with pytest.raises(DataError, match="not of its table"):
        reward(encoder.encode(train).batch(rows), lists)
    with pytest.raises(DataError, match="100 requests"):
        TrueReward(world, train, columns)
