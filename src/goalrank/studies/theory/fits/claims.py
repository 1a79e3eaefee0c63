"""Tables of the fits' results on Theorem 1 and on equal numbers of parameters."""

from __future__ import annotations

from typing import Any

import torch

from goalrank.studies.theory.fits.approximation import FamilyFits
from goalrank.studies.theory.fits.families import Mixture, SingleGenerator
from goalrank.studies.theory.fits.fit import Fitted, fit
from goalrank.studies.theory.fits.warm_starts import stacked, widened
from goalrank.studies.theory.population import population_for_policy


def _verdict(single: float, single_done: bool, mixture: float, mixture_done: bool) -> str:
    """Judge two fits, each an upper bound of its family's infimum; see docs/theory.md."""
    if single < mixture:
        return "holds" if mixture_done else "undecided"
    return "not observed" if single_done else "undecided"


def theorem_rows(fits: FamilyFits, extra: list[int]) -> list[dict[str, Any]]:
    """Compare E(F) of one generator of width kα + n with E(C) of the k-mixture of width α.

    The columns ``_random`` compare the same number of random starts on both sides. Without them
    single generators have an advantage, as more of their widths are fitted and each fit also
    starts from the narrower one.

    Args:
        fits: of both families.
        extra: the n.
    """
    rows = []
    for (k, width), mixture in sorted(fits.mixtures.items()):
        for n in extra:
            single = fits.singles[k * width + n]
            random = single.error_of("random"), mixture.error_of("random")
            rows.append(
                {
                    "k": k,
                    "alpha": width,
                    "n": n,
                    "width": k * width + n,
                    "E_mixture": mixture.error,
                    "E_single": single.error,
                    "E_mixture_random": random[1],
                    "E_single_random": random[0],
                    "holds_random": random[0] < random[1],
                    "mixture_converged": mixture.converged,
                    "single_converged": single.converged,
                    "verdict": _verdict(
                        single.error, single.converged, mixture.error, mixture.converged
                    ),
                }
            )
    return rows


def budget_widths(fits: FamilyFits, pairs: list[tuple[int, int]]) -> set[int]:
    """Widths of the single generators with at most the parameters of the mixtures and best-of-k.

    Args:
        fits: gives the sizes.
        pairs: (k, α) of the mixtures and best-of-k.
    """
    sizes = fits.sizes
    costs = [sizes.mixture(k, a) for k, a in pairs] + [k * sizes.generator(a) for k, a in pairs]
    return {sizes.width_within(cost) for cost in costs} - {0}


def budget_rows(fits: FamilyFits) -> list[dict[str, Any]]:
    """Compare mixtures and best-of-k with the widest single generator of as many parameters.

    Args:
        fits: of all three families.
    """
    rows = []
    entries: list[tuple[str, int, int, Fitted[Any]]] = [
        *(("mixture", k, a, fitted) for (k, a), fitted in sorted(fits.mixtures.items())),
        *(("best_of", k, a, fitted) for (k, a), fitted in sorted(fits.best_of.items())),
    ]
    for family, k, width, fitted in entries:
        single = fits.sizes.width_within(fitted.parameters)
        rows.append(
            {
                "family": family,
                "k": k,
                "alpha": width,
                "parameters": fitted.parameters,
                "E": fitted.error,
                "converged": fitted.converged,
                "single_width": single,
                "single_parameters": fits.singles[single].parameters,
                "E_single": fits.singles[single].error,
                "single_converged": fits.singles[single].converged,
            }
        )
    return rows


def mixture_target_rows(
    fits: FamilyFits, mixture: Mixture, extra: list[int]
) -> list[dict[str, Any]]:
    """Fit single generators to a target π* that is itself a k-mixture, so that E(C) = 0.

    No generator can then be strictly better than the mixtures; the table shows how fast E falls
    with n, and so how well kα + n units copy a k-mixture.

    Args:
        fits: gives the population, the options and the random numbers.
        mixture: the target policy.
        extra: the n.
    """
    with torch.no_grad():
        target = population_for_policy(fits.population, mixture(fits.population))
    k, width = mixture.generators.k, mixture.generators.width
    rows, last = [], None
    for n in extra:
        total = k * width + n
        starts = [
            (f"random {i}", SingleGenerator(fits.sizes, total, fits.rng(9, total, i)))
            for i in range(fits.options.starts)
        ]
        starts.append(("stacked", stacked(mixture, total, fits.rng(9, total, 98))))
        if last is not None:
            starts.append(("narrower", widened(last, total, fits.rng(9, total, 99))))
        fitted = fit(starts, target, fits.options, fits.parallel_map)
        last = fitted.policy
        rows.append(
            {"n": n, "width": total, "E_single": fitted.error, "converged": fitted.converged}
        )
        fits.progress(f"target is a mixture k={k}, single width={total}: E={fitted.error:.5f}")
    return rows
