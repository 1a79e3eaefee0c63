"""Optima: brute force, near-optimum, certified bounds, the optimal policy, refusals."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.errors import ConfigError, DataError, InfeasibleError
from goalrank.worlds import (
    World,
    all_rewards,
    enumerate_lists,
    exact_optimum,
    kl_divergence,
    near_optimum,
    optimal_policy,
    pointwise_lists,
)
from goalrank.worlds.truth.bounds import upper_bound
from tests.worlds.conftest import requests_of, rich
from tests.worlds.test_response_model import changes


@given(n=st.integers(1, 6), data=st.data())
@settings(max_examples=20, deadline=None)
def test_enumeration_lists_all_once(n: int, data: st.DataObject) -> None:
    slots = data.draw(st.integers(1, n))
    assert enumerate_lists(n, slots).tolist() == [
        list(x) for x in itertools.permutations(range(n), slots)
    ]


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(InfeasibleError, match=r"11,441,304,000 .*near_optimum"):
        enumerate_lists(50, 6)
    world = World(rich(candidates=12, slots=6))
    users, items = requests_of(world, 2)
    with pytest.raises(InfeasibleError, match="665,280"):
        exact_optimum(world, users, items, limit=1000)
    with pytest.raises(InfeasibleError, match="665,280"):
        optimal_policy(world, users, items, temperature=1.0, limit=1000)
    with pytest.raises(ConfigError, match="slots=3"):
        enumerate_lists(2, 3)


def test_exact_optimum_is_brute_force(world: World) -> None:
    users, items = requests_of(world, 20)
    lists, value = exact_optimum(world, users, items)
    brute = torch.tensor(list(itertools.permutations(range(6), 3)))
    rewards = torch.stack(
        [world.reward(users[b : b + 1], items[b : b + 1], brute[None])[0] for b in range(20)]
    )
    torch.testing.assert_close(value, rewards.max(dim=1).values, rtol=0, atol=1e-12)
    torch.testing.assert_close(world.reward(users, items, lists[:, None])[:, 0], value)


@settings(max_examples=15, deadline=None)
@given(changes=changes, several=st.booleans())
def test_near_optimum_against_exact(changes: dict[str, object], several: bool) -> None:
    if not several:
        changes = changes | {"kinds": ({"name": "click"},)}
    world = World(rich(candidates=7, **changes))
    users, items = requests_of(world, 40)
    best = exact_optimum(world, users, items)[1]
    found = near_optimum(world, users, items, beam=8)
    assert bool((found.value <= best + 1e-9).all())
    # A beam of 8 misses the best list of a few requests in some worlds, by little.
    assert float((found.value >= best - 1e-9).double().mean()) >= 0.7
    assert float((found.value / best).mean()) >= 0.99
    torch.testing.assert_close(
        world.reward(users, items, found.lists[:, None])[:, 0], found.value, rtol=0, atol=1e-12
    )
    assert bool((found.bound >= best - 1e-9).all())
    assert bool((found.gap >= 0).all())
    assert bool((found.runner_up <= found.value).all())
    assert bool((found.lists.sort(dim=1).values.diff(dim=1) > 0).all())


@settings(max_examples=10, deadline=None)
@given(changes=changes, several=st.booleans())
def test_bounds_hold_tighten_and_meet(changes: dict[str, object], several: bool) -> None:
    if not several:
        changes = changes | {"kinds": ({"name": "click"},)}
    world = World(rich(**changes))
    users, items = requests_of(world, 10)
    best = exact_optimum(world, users, items)[1]
    model = world.response_model(users, items)
    bounds = torch.stack([upper_bound(model, 3, depth) for depth in range(4)])
    assert bool((bounds >= best - 1e-9).all())
    assert bool((bounds.diff(dim=0) <= 1e-9).all())
    torch.testing.assert_close(bounds[-1], best, rtol=0, atol=1e-9)


def test_near_optimum_ignores_padding_and_neighbours(world: World) -> None:
    users, items = requests_of(world, 10)
    whole = near_optimum(world, users, items)
    padded = torch.cat([items, torch.full((10, 2), -1)], dim=1)
    torch.testing.assert_close(near_optimum(world, users, padded).value, whole.value)
    alone = near_optimum(world, users[3:4], items[3:4])
    assert alone.lists.tolist() == whole.lists[3:4].tolist()
    with pytest.raises(DataError, match="slots=3"):
        near_optimum(world, users, items.index_fill(1, torch.arange(4), -1))
    with pytest.raises(ConfigError, match="beam=0"):
        near_optimum(world, users, items, beam=0)


def test_lists_of_one_slot_are_the_pointwise_sort() -> None:
    world = World(rich(slots=1))
    users, items = requests_of(world, 10)
    found = near_optimum(world, users, items, bound_depth=0)
    lists, value = exact_optimum(world, users, items)
    assert torch.equal(found.lists, lists)
    assert torch.equal(pointwise_lists(world.response_model(users, items), 1), lists)
    torch.testing.assert_close(near_optimum(world, users, items).bound, value)


def test_optimal_policy_normalises_and_is_proportional(world: World) -> None:
    users, items = requests_of(world, 8)
    policy = optimal_policy(world, users, items, temperature=0.5)
    torch.testing.assert_close(policy.log_prob.exp().sum(dim=1), torch.ones(8, dtype=torch.float64))
    rewards = all_rewards(world.response_model(users, items), enumerate_lists(6, 3))
    torch.testing.assert_close(
        (rewards / 0.5).exp() / (rewards / 0.5).exp().sum(dim=1, keepdim=True),
        policy.log_prob.exp(),
    )
    torch.testing.assert_close(policy.log_partition, (rewards / 0.5).exp().sum(dim=1).log())
    with pytest.raises(ConfigError, match="temperature"):
        optimal_policy(world, users, items, temperature=0.0)


def test_optimal_policy_maximises_its_objective(world: World) -> None:
    """E_π[r] + τ H(π) = τ (log Z - KL(π ‖ π*)): τ log Z is reached by π* only."""
    users, items = requests_of(world, 5)
    policy = optimal_policy(world, users, items, temperature=0.3)
    other = torch.randn(5, 120, generator=torch.Generator().manual_seed(0)).double().log_softmax(1)

    def objective(log_prob: torch.Tensor) -> torch.Tensor:
        p = log_prob.exp()
        return (p * policy.reward).sum(1) - 0.3 * (p * log_prob).sum(1)

    top = 0.3 * policy.log_partition
    torch.testing.assert_close(objective(policy.log_prob), top)
    torch.testing.assert_close(top - objective(other), 0.3 * kl_divergence(other, policy.log_prob))
