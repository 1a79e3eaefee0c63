from __future__ import annotations

import pytest
import torch

from goalrank.errors import ConfigError
from goalrank.studies.theory import FitOptions, Mixture, Population, SingleGenerator, Sizes, fit
from goalrank.studies.theory.population import population_for_policy


def _starts(sizes: Sizes, width: int, count: int = 2) -> list[tuple[str, SingleGenerator]]:
    return [
        (f"random {i}", SingleGenerator(sizes, width, torch.Generator().manual_seed(i)))
        for i in range(count)
    ]


def test_a_planted_generator_is_found_again(population: Population) -> None:
    sizes = Sizes.of(population)
    planted = SingleGenerator(sizes, 1, torch.Generator().manual_seed(50))
    with torch.no_grad():
        target = population_for_policy(population, planted(population))
    fitted = fit(_starts(sizes, 4), target, FitOptions(iterations=400))
    assert fitted.error < 1e-3
    assert fitted.error == min(start.error for start in fitted.starts)


def test_the_best_start_is_kept_with_its_policy(population: Population) -> None:
    fitted = fit(_starts(Sizes.of(population), 2, 3), population, FitOptions(iterations=100))
    with torch.no_grad():
        again = float(population.error(fitted.policy(population)))
    assert again == pytest.approx(fitted.error)
    assert len(fitted.summary()["starts"]) == 3


def test_a_fit_cut_short_is_reported_as_not_converged(population: Population) -> None:
    options = FitOptions(starts=1, iterations=10, chunk=10)
    fitted = fit(_starts(Sizes.of(population), 6, 1), population, options)
    assert not fitted.converged
    assert fitted.starts[0].iterations == 10


def test_a_finished_fit_converges_at_a_small_gradient(population: Population) -> None:
    fitted = fit(_starts(Sizes.of(population), 1, 1), population, FitOptions())
    assert fitted.converged
    assert fitted.starts[0].gradient < 1e-2


def test_an_overflowing_start_does_not_win(population: Population) -> None:
    sizes = Sizes.of(population)
    good, bad = _starts(sizes, 1)
    with torch.no_grad():
        bad[1].generators.out.fill_(float("nan"))
    fitted = fit([bad, good], population, FitOptions(iterations=100))
    assert fitted.policy is good[1]
    assert fitted.error < 2.0


def test_mixtures_fit_no_worse_than_what_they_start_from(population: Population) -> None:
    mixture = Mixture(Sizes.of(population), 2, 1, torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = float(population.error(mixture(population)))
    assert fit([("one", mixture)], population, FitOptions(iterations=100)).error < before


def test_options_out_of_range_are_refused(population: Population) -> None:
    with pytest.raises(ConfigError, match="starts=0"):
        FitOptions(starts=0)
    with pytest.raises(ConfigError, match=r"starts=65 must be in 1\.\.64"):
        FitOptions(starts=65)
    with pytest.raises(ConfigError, match="chunk=300"):
        FitOptions(iterations=200, chunk=300)
    with pytest.raises(ConfigError, match="at least one start"):
        fit([], population, FitOptions())
