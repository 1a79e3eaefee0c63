"""A regret table whose numbers add up, from a file sampled by a world."""

from __future__ import annotations

import json

import pytest

from goalrank.api import fit, world_card
from goalrank.errors import ConfigError, DataError
from goalrank.requests import Requests
from goalrank.training import load_config
from goalrank.worlds import World
from tests.api.kit import TINY
from tests.worlds.conftest import rich


@pytest.fixture(scope="module")
def setting():
    world = World(rich())
    model = fit(world.sample(80, seed=1), config=load_config(None, TINY), progress=False)
    return world, model, world.sample(30, seed=1, first=80)


def test_the_two_parts_of_regret_sum_to_it(setting):
    world, model, requests = setting
    card = world_card({"mine": model}, requests, world, bootstrap=20, beam=16, lists=4)
    assert list(card.rows) == ["mine", "random", "logging policy", "retriever's order",
                               "true pointwise sort", "near-optimum"]  # fmt: skip
    part, row = card.parts["mine"], card.rows["mine"]
    assert part.policy_error.mean + part.reward_error.mean == pytest.approx(row.regret.mean)
    assert part.policy_error_learned.mean >= 0
    assert row.regret.low <= row.regret.mean <= row.regret.high
    assert card.rows["near-optimum"].share_exact == 1.0
    assert card.rows["true pointwise sort"].gap_closed == pytest.approx(0.0)
    assert {"random", "proposed"} == set(part.correlation)
    json.dumps(card.to_dict())
    assert "policy error" in str(card)
    assert card.requests == 30


def test_limit_takes_the_last_requests(setting):
    world, model, requests = setting
    card = world_card({"mine": model}, requests, world, limit=7, bootstrap=5, reward_beam=0)
    assert card.requests == 7
    assert card.parts == {}


def test_faults_are_named(setting):
    world, model, requests = setting
    with pytest.raises(ConfigError, match="baseline's"):
        world_card({"random": model}, requests, world, limit=2)
    with pytest.raises(ConfigError, match="no bundle"):
        world_card({}, requests, world)
    with pytest.raises(DataError, match="not that of world"):
        world_card({"mine": model}, requests, World(rich(seed=9)))
    empty = Requests(requests.frame.clear(), items=requests.items, info=requests.info)
    with pytest.raises(DataError, match="no requests"):
        world_card({"mine": model}, empty, world)
