"""Approximation errors E(Π) of the three families over widths and k."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from goalrank.compute import ParallelMap
from goalrank.studies.theory.bounds.reward_bias import draw_bias
from goalrank.studies.theory.fits.best_of import score_classes
from goalrank.studies.theory.fits.families import BestOf, Mixture, SingleGenerator, Sizes
from goalrank.studies.theory.fits.fit import FitOptions, Fitted, P, fit
from goalrank.studies.theory.fits.warm_starts import (
    as_mixture,
    doubled,
    stacked,
    widened,
    widened_mixture,
)
from goalrank.studies.theory.population import Population

Progress = Callable[[str], None]
_SINGLE, _MIXTURE, _BEST_OF, _OTHER = range(4)


@dataclass
class FamilyFits:
    """Fits of the families to one population; every start has its own random numbers.

    Attributes:
        population: the population.
        options: of the fits.
        seed: of all starts.
        progress: called with one line per fit.
        parallel_map: `map`, or one that runs the starts of a fit in several processes.
        singles: width → fit of a single generator.
        mixtures: (k, α) → fit of a mixture.
        best_of: (k, α) → fit of best-of-k.
        biased: (k, α, ratio) → fit of best-of-k with a biased evaluator.
    """

    population: Population
    options: FitOptions
    seed: int
    progress: Progress
    parallel_map: ParallelMap = map
    singles: dict[int, Fitted[SingleGenerator]] = field(default_factory=dict)
    mixtures: dict[tuple[int, int], Fitted[Mixture]] = field(default_factory=dict)
    best_of: dict[tuple[int, int], Fitted[BestOf]] = field(default_factory=dict)
    biased: dict[tuple[int, int, float], Fitted[BestOf]] = field(default_factory=dict)

    @property
    def sizes(self) -> Sizes:
        """Sizes of the nets."""
        return Sizes.of(self.population)

    def rng(self, *words: int) -> torch.Generator:
        """Make the random numbers of one start, independent of all others.

        Args:
            *words: numbers that name the start.
        """
        state = np.random.SeedSequence([self.seed, *words]).generate_state(1)
        return torch.Generator().manual_seed(int(state[0]))

    def _fit(self, starts: list[tuple[str, P]]) -> Fitted[P]:
        return fit(starts, self.population, self.options, self.parallel_map)

    def fit_singles(self, widths: list[int]) -> None:
        """Fit single generators, narrow to wide; each also starts from the next narrower one.

        Args:
            widths: of the generators.
        """
        last: SingleGenerator | None = None
        for width in sorted(widths):
            starts = [
                (f"random {i}", SingleGenerator(self.sizes, width, self.rng(_SINGLE, width, i)))
                for i in range(self.options.starts)
            ]
            if last is not None:
                starts.append(("narrower", widened(last, width, self.rng(_SINGLE, width, 99))))
            fitted = self._fit(starts)
            self.singles[width], last = fitted, fitted.policy
            self.progress(f"single width={width}: E={fitted.error:.5f}")

    def fit_mixture(self, k: int, width: int) -> None:
        """Fit a k-mixture; it also starts from k/2 generators and from narrower ones, if fitted.

        Args:
            k: number of generators.
            width: of each.
        """
        rng = self.rng(_MIXTURE, k, width, 99)
        starts = [
            (f"random {i}", Mixture(self.sizes, k, width, self.rng(_MIXTURE, k, width, i)))
            for i in range(self.options.starts)
        ]
        if k == 2 and width in self.singles:
            starts.append(("k/2", doubled(as_mixture(self.singles[width].policy, rng), rng)))
        if (k // 2, width) in self.mixtures and k % 2 == 0:
            starts.append(("k/2", doubled(self.mixtures[k // 2, width].policy, rng)))
        narrower = [w for j, w in self.mixtures if j == k and w < width]
        if narrower:
            source = self.mixtures[k, max(narrower)].policy
            starts.append(("narrower", widened_mixture(source, width, rng)))
        self.mixtures[k, width] = self._fit(starts)
        self.progress(f"mixture k={k} width={width}: E={self.mixtures[k, width].error:.5f}")

    def _best_of(self, k: int, width: int, classes: Tensor, word: int) -> Fitted[BestOf]:
        starts = [
            (f"random {i}", BestOf(self.sizes, k, width, classes, self.rng(word, k, width, i)))
            for i in range(self.options.starts)
        ]
        return self._fit(starts)

    def fit_best_of(self, k: int, width: int) -> None:
        """Fit best-of-k with the true reward as the evaluator.

        Args:
            k: number of generators.
            width: of each.
        """
        classes = score_classes(self.population.reward)
        self.best_of[k, width] = self._best_of(k, width, classes, _BEST_OF)
        self.progress(f"best of k={k} width={width}: E={self.best_of[k, width].error:.5f}")

    def fit_biased(self, k: int, width: int, ratio: float) -> None:
        """Fit best-of-k with r* + noise as the evaluator.

        Args:
            k: number of generators.
            width: of each.
            ratio: standard deviation of the noise in units of that of r*.
        """
        amplitude = ratio * 3.0**0.5 * float(self.population.reward.std(dim=1).mean())
        bias = draw_bias(self.population, "noise", amplitude, self.rng(_OTHER, 1))
        classes = score_classes(self.population.reward + bias)
        fitted = self._best_of(k, width, classes, _BEST_OF)
        self.biased[k, width, ratio] = fitted
        self.progress(f"best of k={k} width={width} noise={ratio:g}: E={fitted.error:.5f}")

    def stack(self, k: int, width: int, total: int) -> None:
        """Fit the single generator of width ``total`` again, from the units of a mixture.

        Args:
            k: number of generators of the mixture.
            width: of each.
            total: width of the single generator, at least k·width.
        """
        start = stacked(self.mixtures[k, width].policy, total, self.rng(_OTHER, 2, k, width, total))
        self._improve(total, f"stacked k={k} width={width}", start)

    def make_monotone(self) -> None:
        """Fit each single generator that is worse than a narrower one again, from that one."""
        widths = sorted(self.singles)
        for narrow, wide in pairwise(widths):
            if self.singles[wide].error > self.singles[narrow].error:
                start = widened(self.singles[narrow].policy, wide, self.rng(_OTHER, 3, wide))
                self._improve(wide, "narrower, again", start)

    def _improve(self, width: int, name: str, start: SingleGenerator) -> None:
        old, new = self.singles[width], self._fit([(name, start)])
        best = new if new.error < old.error else old
        self.singles[width] = Fitted(
            best.policy, best.error, best.converged, best.parameters, old.starts + new.starts
        )
