"""Lists by search over any reward, and rankers judged by the truth."""

from __future__ import annotations

import pytest
import torch

from goalrank.errors import ConfigError, DataError
from goalrank.rankers import RandomOrder
from goalrank.requests import Encoder
from goalrank.rewards import Reward
from goalrank.worlds import RegretMeter, TrueReward, World, exact_optimum, search_best_lists
from tests.worlds.conftest import rich


class Backwards(Reward):
    """Likes what the truth dislikes."""

    def __init__(self, truth: Reward) -> None:
        super().__init__()
        self.truth = truth

    def forward(self, batch, lists):
        return -self.truth(batch, lists)


@pytest.fixture(scope="module")
def table():
    world = World(rich())
    requests = world.sample(24, seed=2)
    columns = Encoder.fit(requests).encode(requests)
    return world, requests, columns, TrueReward(world, requests, columns)


def test_search_finds_the_exact_best_under_the_truth(table):
    world, _, columns, truth = table
    batch = columns.batch(slice(None))
    lists, value = search_best_lists(truth, batch, 3, beam=6)
    _, best = exact_optimum(world, *truth.rows(batch))
    torch.testing.assert_close(value.double(), best, atol=1e-5, rtol=0)
    torch.testing.assert_close(truth(batch, lists[:, None]).squeeze(1), value)


class Matches(Reward):
    """How many slots hold the wanted item; nothing before the list is full, or unless all do."""

    def __init__(self, wanted, *, all_or_nothing=False):
        super().__init__()
        self.wanted = wanted
        self.all_or_nothing = all_or_nothing

    def forward(self, batch, lists):
        if lists.shape[-1] < len(self.wanted):
            return torch.zeros(lists.shape[:2])
        count = (lists == self.wanted).sum(-1).float()
        return (count == len(self.wanted)).float() if self.all_or_nothing else count


def test_search_is_never_below_its_starts(table):
    _, _, columns, _ = table
    batch = columns.batch(slice(None))
    wanted = torch.tensor([5, 3, 4])
    needle = Matches(wanted, all_or_nothing=True)
    starts = wanted.expand(len(columns), 1, 3)
    lists, value = search_best_lists(needle, batch, 3, starts=starts, beam=1, restarts=1, rounds=1)
    assert bool((value == 1).all())
    assert bool((lists == wanted).all())


def test_the_ascent_improves_where_prefixes_have_no_value(table):
    _, _, columns, _ = table
    wanted = torch.tensor([5, 3, 4])
    lists, value = search_best_lists(
        Matches(wanted), columns.batch(slice(None)), 3, beam=1, restarts=1
    )
    assert bool((value == 3).all())
    assert bool((lists == wanted).all())


def test_search_refuses_invalid_options(table):
    _, _, columns, truth = table
    with pytest.raises(ConfigError, match="beam=0"):
        search_best_lists(truth, columns.batch([0]), 3, beam=0)
    with pytest.raises(DataError, match="at least slots=7"):
        search_best_lists(truth, columns.batch([0]), 7)


def test_references_are_ordered(table):
    world, requests, columns, _ = table
    truth = RegretMeter(world, requests, columns).reference_rewards(beam=32)
    mean = {rule: float(values.mean()) for rule, values in truth.rewards.items()}
    assert mean["random"] < mean["true pointwise sort"] <= mean["near-optimum"]
    assert list(mean)[-1] == "near-optimum"
    assert truth.gap >= 0


def test_the_true_reward_has_no_reward_error_and_its_negative_has_all(table):
    world, requests, columns, truth = table
    judge = RegretMeter(world, requests, columns)
    best = judge.reference_rewards().best
    ranker = RandomOrder()
    good = judge.evaluate(ranker, truth, columns, lists=8)
    torch.testing.assert_close(good.found, best, atol=1e-5, rtol=0)
    assert good.correlation["random"]["spearman"].mean == pytest.approx(1.0, abs=1e-6)
    bad = judge.evaluate(ranker, Backwards(truth), columns, lists=8)
    assert bad.found is not None
    assert bad.learned is not None
    assert bad.learned_found is not None
    assert float((best - bad.found).mean()) > float((best - bad.reward).mean())
    assert bad.correlation["proposed"]["pearson"].mean == pytest.approx(-1.0, abs=1e-6)
    assert bool((bad.learned_found >= bad.learned - 1e-6).all())


def test_a_ranker_without_reward_has_no_parts(table):
    world, requests, columns, _ = table
    judged = RegretMeter(world, requests, columns).evaluate(RandomOrder(), None, columns)
    assert judged.found is None
    assert judged.correlation == {}


def test_another_world_is_refused(table):
    _, requests, columns, _ = table
    with pytest.raises(DataError, match="not that of world"):
        RegretMeter(World(rich(seed=5)), requests, columns)
