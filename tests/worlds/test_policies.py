"""Logging: Plackett–Luce probabilities and exact propensities."""

from __future__ import annotations

import itertools

import pytest
import torch

from goalrank.worlds import (
    LoggingConfig,
    LoggingPolicy,
    World,
    enumerate_lists,
    gumbel_top_k,
    list_log_prob,
    set_log_prob,
)
from goalrank.worlds.sampling.request_draws import draw_requests
from goalrank.worlds.world.world import EPOCH_US
from tests.worlds.conftest import rich


def scores(rows: int, n: int = 5, scale: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return scale * torch.randn(rows, n, generator=generator, dtype=torch.float64)


def test_list_probabilities_sum_to_one_and_sets_sum_their_orders() -> None:
    s, lists = scores(1).expand(60, 5), enumerate_lists(5, 3)
    p = list_log_prob(s, lists).exp()
    assert float(p.sum()) == pytest.approx(1.0, abs=1e-12)
    of_set = set_log_prob(s, lists).exp()
    for members in itertools.combinations(range(5), 3):
        same = (lists.sort(dim=1).values == torch.tensor(members)).all(dim=1)
        torch.testing.assert_close(of_set[same], p[same].sum().expand(6))


def test_set_probability_of_all_candidates_is_one_even_for_extreme_scores() -> None:
    s = scores(20, scale=60.0)
    everything = torch.arange(5).expand(20, 5)
    torch.testing.assert_close(
        set_log_prob(s, everything), torch.zeros(20, dtype=torch.float64), rtol=0, atol=1e-9
    )


def test_gumbel_draws_follow_their_probabilities() -> None:
    rows = 40_000
    s = scores(1, 4, 1.0)
    drawn = gumbel_top_k(s.expand(rows, 4), 2, torch.Generator().manual_seed(0))
    lists = enumerate_lists(4, 2)
    p = list_log_prob(s.expand(12, 4), lists).exp()
    share = (drawn[:, None] == lists).all(dim=2).double().mean(dim=0)
    assert bool(((share - p).abs() < 4 * (p * (1 - p) / rows).sqrt()).all())


@pytest.mark.parametrize("shuffle", [0.0, 0.4, 1.0])
def test_propensities_sum_to_one_and_match_draws(shuffle: float) -> None:
    world = World(rich(candidates=4, slots=2))
    config = LoggingConfig(random=0.3, pointwise=0.3, popular=0.4, shuffle=shuffle)
    policy, lists = LoggingPolicy(config), enumerate_lists(4, 2)
    drawn = draw_requests(world, 0, 1, EPOCH_US, torch.Generator().manual_seed(1))
    rows = 30_000
    many = type(drawn)(
        world,
        0,
        *(
            getattr(drawn, name).expand(rows, *getattr(drawn, name).shape[1:])
            for name in (
                "users",
                "time_us",
                "days",
                "items",
                "scores",
                "history",
                "history_us",
                "history_length",
            )
        ),
    )
    twelve = type(drawn)(
        world,
        0,
        *(
            getattr(many, name)[:12]
            for name in (
                "users",
                "time_us",
                "days",
                "items",
                "scores",
                "history",
                "history_us",
                "history_length",
            )
        ),
    )
    p = policy.log_prob(world, twelve, lists).exp()
    assert float(p.sum()) == pytest.approx(1.0, abs=1e-12)
    chosen, propensity = policy(world, many, torch.Generator().manual_seed(2))
    at = (chosen[:, None] == lists).all(dim=2)
    share = at.double().mean(dim=0)
    assert bool(((share - p).abs() < 4 * (p * (1 - p) / rows).sqrt()).all())
    assert propensity is not None
    torch.testing.assert_close(propensity, p[at.double().argmax(dim=1)])
