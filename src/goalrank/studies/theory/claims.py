"""What the fits say about Theorem 1 and about equal budgets, as plain tables."""

from __future__ import annotations

from typing import Any

import torch

from goalrank.studies.theory.approximation import ErrorTable
from goalrank.studies.theory.families import Mixture, Single
from goalrank.studies.theory.fit import Fitted, fit
from goalrank.studies.theory.population import planted_population
from goalrank.studies.theory.warm_starts import stacked, widened


def _verdict(single: float, single_done: bool, mixture: float, mixture_done: bool) -> str:
    """A fit is an upper bound of its family's infimum; see docs/theory.md."""
    if single < mixture:
        return "holds" if mixture_done else "undecided"
    return "not observed" if single_done else "undecided"


def theorem_rows(bench: ErrorTable, extra: list[int]) -> list[dict[str, Any]]:
    """E(F) of one generator of width kα + n against E(C) of the k-mixture of width α.

    The columns ``_random`` compare the same number of random starts on both sides: the chain of
    starts from narrower fits helps single generators more, as more widths of them are fitted.
    """
    rows = []
    for (k, width), mixture in sorted(bench.mixtures.items()):
        for n in extra:
            single = bench.singles[k * width + n]
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


def budget_widths(bench: ErrorTable, pairs: list[tuple[int, int]]) -> set[int]:
    """Widths of the single generators that cost at most what the mixtures and best-of-k cost."""
    sizes = bench.sizes
    costs = [sizes.mixture(k, a) for k, a in pairs] + [k * sizes.generator(a) for k, a in pairs]
    return {sizes.width_within(cost) for cost in costs} - {0}


def budget_rows(bench: ErrorTable) -> list[dict[str, Any]]:
    """Each mixture and best-of-k beside the widest single generator with no more parameters."""
    rows = []
    fits: list[tuple[str, int, int, Fitted[Any]]] = [
        *(("mixture", k, a, fitted) for (k, a), fitted in sorted(bench.mixtures.items())),
        *(("best_of", k, a, fitted) for (k, a), fitted in sorted(bench.best_of.items())),
    ]
    for family, k, width, fitted in fits:
        single = bench.sizes.width_within(fitted.parameters)
        rows.append(
            {
                "family": family,
                "k": k,
                "alpha": width,
                "parameters": fitted.parameters,
                "E": fitted.error,
                "converged": fitted.converged,
                "single_width": single,
                "single_parameters": bench.singles[single].parameters,
                "E_single": bench.singles[single].error,
                "single_converged": bench.singles[single].converged,
            }
        )
    return rows


def planted_rows(bench: ErrorTable, mixture: Mixture, extra: list[int]) -> list[dict[str, Any]]:
    """Take a k-mixture for π* itself, so that E(C) = 0, and fit single generators to it.

    No generator can then be strictly better than the mixtures; the question is how fast E falls
    with n. Also a measure of the embedding: how well kα + n units copy a k-mixture.
    """
    with torch.no_grad():
        target = planted_population(bench.population, mixture(bench.population))
    k, width = mixture.generators.k, mixture.generators.width
    rows, last = [], None
    for n in extra:
        total = k * width + n
        starts = [
            (f"random {i}", Single(bench.sizes, total, bench.rng(9, total, i)))
            for i in range(bench.options.starts)
        ]
        starts.append(("stacked", stacked(mixture, total, bench.rng(9, total, 98))))
        if last is not None:
            starts.append(("narrower", widened(last, total, bench.rng(9, total, 99))))
        fitted = fit(starts, target, bench.options, bench.spread)
        last = fitted.policy
        rows.append(
            {"n": n, "width": total, "E_single": fitted.error, "converged": fitted.converged}
        )
        bench.progress(f"planted mixture k={k}, single width={total}: E={fitted.error:.5f}")
    return rows
