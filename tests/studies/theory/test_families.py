from __future__ import annotations

import pytest
import torch

from goalrank.studies.theory import (
    BestOf,
    Mixture,
    Population,
    SingleGenerator,
    Sizes,
    score_classes,
)
from goalrank.studies.theory.fits.warm_starts import (
    as_mixture,
    doubled,
    stacked,
    widened,
    widened_mixture,
)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_family_is_a_distribution_over_lists(population: Population) -> None:
    sizes, classes = Sizes.of(population), score_classes(population.reward)
    for policy in (
        SingleGenerator(sizes, 5, _rng()),
        Mixture(sizes, 3, 2, _rng()),
        BestOf(sizes, 3, 2, classes, _rng()),
    ):
        total = policy(population).exp().sum(dim=1)
        torch.testing.assert_close(total, torch.ones_like(total))


def test_counted_parameters_are_the_real_ones(population: Population) -> None:
    sizes, classes = Sizes.of(population), score_classes(population.reward)
    assert SingleGenerator(sizes, 7, _rng()).parameter_count() == sizes.generator(7)
    assert Mixture(sizes, 3, 2, _rng()).parameter_count() == sizes.mixture(3, 2)
    assert BestOf(sizes, 3, 2, classes, _rng()).parameter_count() == 3 * sizes.generator(2)


@pytest.mark.parametrize("budget", [100, 500, 1234])
def test_the_widest_generator_within_a_budget(population: Population, budget: int) -> None:
    sizes = Sizes.of(population)
    width = sizes.width_within(budget)
    assert sizes.generator(width) <= budget < sizes.generator(width + 1)


def test_the_gate_chooses_by_request(population: Population) -> None:
    mixture = Mixture(Sizes.of(population), 2, 2, _rng())
    with torch.no_grad():
        mixture.gate.zero_()
        mixture.gate_bias.copy_(torch.tensor([0.0, -800.0]))
    torch.testing.assert_close(mixture(population), mixture.generators(population)[0])


def test_larger_families_contain_the_smaller_ones(population: Population) -> None:
    sizes = Sizes.of(population)
    single, mixture = SingleGenerator(sizes, 3, _rng(1)), Mixture(sizes, 2, 3, _rng(2))
    for grown, source in (
        (widened(single, 5, _rng(3)), single),
        (as_mixture(single, _rng(3)), single),
        (widened_mixture(mixture, 4, _rng(3)), mixture),
        (doubled(mixture, _rng(3), noise=0.0), mixture),
    ):
        torch.testing.assert_close(grown(population), source(population))


def test_doubled_generators_differ_and_can_be_trained(population: Population) -> None:
    twice = doubled(Mixture(Sizes.of(population), 2, 2, _rng(1)), _rng(2))
    one, two = twice.generators(population)[[0, 2]]
    assert float((one - two).detach().abs().max()) > 1e-4
    assert twice.parameter_count() == Sizes.of(population).mixture(4, 2)


def test_stacking_averages_the_logits_of_the_small_generators(population: Population) -> None:
    source = SingleGenerator(Sizes.of(population), 2, _rng(1))
    alike = doubled(as_mixture(source, _rng(2)), _rng(3), noise=0.0)
    torch.testing.assert_close(stacked(alike, 6, _rng(4))(population), source(population))
