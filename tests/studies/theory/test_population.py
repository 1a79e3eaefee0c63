from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from goalrank.errors import ConfigError, InfeasibleError
from goalrank.studies.theory import Population, SingleGenerator, Sizes, check_feasible
from goalrank.studies.theory.population import prefix_tree
from goalrank.studies.theory.settings import tiny_world
from goalrank.worlds import WorldConfig, enumerate_lists


def test_tiny_world_is_the_shipped_recipe() -> None:
    path = Path(__file__).parents[3] / "configs" / "worlds" / "tiny.toml"
    assert tiny_world() == WorldConfig.load(path)


def test_optimal_policy_is_the_softmax_of_the_reward(population: Population) -> None:
    expected = (population.reward / 0.1).softmax(dim=1)
    torch.testing.assert_close(population.log_prob.exp(), expected)
    assert float(population.error(population.log_prob)) == pytest.approx(0.0, abs=1e-12)


def test_entropy_and_error_against_uniform_add_up(population: Population) -> None:
    uniform = torch.full_like(population.log_prob, -math.log(120))
    total = population.entropy.mean() + population.error(uniform)
    assert float(total) == pytest.approx(math.log(120))


@pytest.mark.parametrize(("candidates", "slots"), [(4, 1), (4, 4), (5, 3), (8, 4)])
def test_steps_walk_each_list_through_its_own_prefixes(candidates: int, slots: int) -> None:
    tree, lists = prefix_tree(candidates, slots), enumerate_lists(candidates, slots)
    for number in range(0, len(lists), max(1, len(lists) // 17)):
        for t in range(slots):
            row, item = divmod(int(tree.steps[number, t]), candidates)
            assert item == int(lists[number, t])
            placed = tree.used[row].nonzero().flatten().tolist()
            assert placed == sorted(lists[number, :t].tolist())
            hot = tree.first[row].view(-1, candidates)[:t].argmax(dim=1)
            assert hot.tolist() == lists[number, :t].tolist()


def test_a_list_has_the_chance_that_a_walk_by_hand_gives(population: Population) -> None:
    policy = SingleGenerator(Sizes.of(population), 3, torch.Generator().manual_seed(1))
    policy.requires_grad_(False)
    log_prob = policy(population)
    g, request, number = policy.generators, 1, 77
    placed: list[int] = []
    total = 0.0
    for item in population.lists[number].tolist():
        hot = torch.zeros(2, 6, dtype=torch.float64)
        for t, p in enumerate(placed):
            hot[t, p] = 1.0
        seen = population.features[request] @ g.request[0] + hot.flatten() @ g.prefix[0]
        logit = torch.tanh(seen + g.shift[0, 0]) @ g.out[0] + g.bias[0, 0]
        free = [i for i in range(6) if i not in placed]
        total += float(logit[item] - logit[free].logsumexp(0))
        placed.append(item)
    assert float(log_prob[request, number]) == pytest.approx(total)


@pytest.mark.parametrize(("candidates", "slots"), [(9, 3), (8, 5), (3, 4), (3, 0)])
def test_worlds_out_of_reach_are_refused(candidates: int, slots: int) -> None:
    with pytest.raises(ConfigError, match=r"near_optimum"):
        check_feasible(1, candidates, slots)


def test_too_many_requests_are_counted_and_an_alternative_is_named() -> None:
    with pytest.raises(InfeasibleError, match=r"1,680 lists.*GiB.*at most requests=19,972"):
        check_feasible(100_000, 8, 4)
    with pytest.raises(ConfigError, match="requests=0"):
        check_feasible(0, 6, 3)
