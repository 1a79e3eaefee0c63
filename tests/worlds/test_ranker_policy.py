"""A ranker fills a world's log: its lists, its exact propensities, its place in a round."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from goalrank.errors import ConfigError
from goalrank.rankers import Ranker, RankerConfig, build_ranker
from goalrank.requests import Encoder, Requests
from goalrank.worlds import EPOCH_US, RankerPolicy, World, drawn_table, enumerate_lists, round_seed
from goalrank.worlds.sampling.request_draws import draw_requests
from tests.worlds.conftest import rich


@pytest.fixture(scope="module")
def world() -> World:
    return World(rich(candidates=4, slots=2))


@pytest.fixture(scope="module")
def encoder(world: World) -> Encoder:
    return Encoder.fit(world.sample(60))


@pytest.fixture(scope="module", params=["goalrank", "prm"])
def ranker(request: pytest.FixtureRequest, encoder: Encoder) -> Ranker:
    torch.manual_seed(0)
    config = RankerConfig(name=request.param, slots=2, width=8, layers=1, heads=2)
    ranker = build_ranker(encoder.spec, config).eval()
    for parameter in ranker.parameters():  # far from uniform
        parameter.data.mul_(3.0)
    return ranker


@pytest.mark.parametrize(("explore", "temperature"), [(0.4, 1.0), (1.0, 2.0), (0.0, 1.0)])
def test_propensities_equal_list_frequencies(
    world: World, encoder: Encoder, ranker: Ranker, explore: float, temperature: float
) -> None:
    policy = RankerPolicy(ranker, encoder, explore=explore, temperature=temperature)
    rows, draws = 5, 400
    generator = torch.Generator().manual_seed(1)
    drawn = draw_requests(world, 0, rows, EPOCH_US, generator)
    lists = enumerate_lists(4, 2)  # [12, 2]
    batch = encoder.encode(drawn_table(drawn)).batch(slice(0, rows))
    with torch.inference_mode():
        state = ranker.encode(batch)
        every = lists.expand(rows, -1, -1)
        pi = ranker.list_log_prob(state, batch, every, temperature).double().exp()
        best = (every == ranker.best(state, batch, 2)[:, None]).all(-1).double()
    chance = (1 - explore) * best + explore * pi
    count, row = torch.zeros_like(chance), torch.arange(rows)
    for _ in range(draws):
        shown, propensity = policy(world, drawn, generator)
        assert propensity is not None
        at = (shown[:, None] == lists).all(-1).int().argmax(1)
        torch.testing.assert_close(propensity, chance[row, at], rtol=1e-4, atol=1e-6)
        count[row, at] += 1
    noise = (chance * (1 - chance) / draws).sqrt()
    assert ((count / draws - chance).abs() <= 4 * noise + 1 / draws).all()


def test_a_round_continues_a_log(world: World, encoder: Encoder, ranker: Ranker) -> None:
    first = world.sample(50, seed=2)
    policy = RankerPolicy(ranker, encoder, name="mine")
    more = world.sample(50, seed=round_seed(2, 50), first=50, policy=policy)
    assert more.frame["policy"].unique().to_list() == ["mine"]
    assert more.frame["propensity"].is_between(0, 1).all()
    both = pl.concat([first.frame, more.frame], how="diagonal")
    table = Requests(both, items=first.items, users=first.users, info=first.info)
    assert table.validate() == []
    assert both["request_id"].n_unique() == 100
    assert both["time"].is_sorted()
    assert first.frame["user_id"].to_list() != more.frame["user_id"].to_list()


def test_settings_out_of_range_are_refused(encoder: Encoder, ranker: Ranker) -> None:
    with pytest.raises(ConfigError, match=r"explore=1\.5"):
        RankerPolicy(ranker, encoder, explore=1.5)
    with pytest.raises(ConfigError, match=r"temperature=0"):
        RankerPolicy(ranker, encoder, temperature=0.0)


def test_seeds_of_rounds_differ() -> None:
    assert round_seed(5, 0) == 5
    assert len({round_seed(s, f) for s in range(20) for f in (0, 1, 100, 2048)}) == 80
