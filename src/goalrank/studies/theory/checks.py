"""Numerical checks of single steps of docs/theory.md."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from goalrank.studies.theory.fits.approximation import FamilyFits
from goalrank.studies.theory.fits.best_of import score_classes
from goalrank.studies.theory.fits.families import BestOf, ListPolicy
from goalrank.studies.theory.population import Population


def gibbs_residual(population: Population, log_prob: Tensor) -> float:
    """Largest |E_π[r*] + τ·H(π) − τ·log Z + τ·KL(π ‖ π*)| over requests; zero for every π.

    Args:
        population: M requests with P lists.
        log_prob: [M, P] log π.
    """
    tau, p = population.temperature, log_prob.exp()
    value = (p * population.reward).sum(dim=1) - tau * (p * log_prob).sum(dim=1)
    optimum = tau * (population.reward / tau).logsumexp(dim=1)
    kl = (p * (log_prob - population.log_prob)).sum(dim=1)
    return float((value - optimum + tau * kl).abs().max())


def lemma_ratio(pairs: int, lists: int, rng: torch.Generator) -> float:
    """Largest total variation / tanh(Δ/4) over random pairs of policies; the lemma says <= 1.

    Half of the pairs have log-ratios of two values only, where the lemma is nearly an equality.

    Args:
        pairs: number of pairs.
        lists: P.
        rng: of the random numbers.
    """
    p = torch.randn(pairs, lists, generator=rng, dtype=torch.float64).log_softmax(dim=1)
    d = torch.rand(pairs, lists, generator=rng, dtype=torch.float64)
    d[: pairs // 2] = d[: pairs // 2].round()
    d = d * 10.0 * torch.rand(pairs, 1, generator=rng, dtype=torch.float64)
    q = (p + d).log_softmax(dim=1)
    delta = d.amax(dim=1) - d.amin(dim=1)
    variation = 0.5 * (p.exp() - q.exp()).abs().sum(dim=1)
    real = delta > 1e-9
    return float((variation[real] / torch.tanh(delta[real] / 4.0)).max())


def sampled_best_of(
    policy: BestOf, population: Population, draws: int, rng: torch.Generator
) -> dict[str, float]:
    """Compare sampled frequencies of best-of-k with its exact probabilities in the first request.

    Args:
        policy: the policy.
        population: its requests.
        draws: number of draws.
        rng: of the draws.

    Returns:
        Number of draws, number of lists compared, and the largest difference in standard
        deviations.
    """
    with torch.no_grad():
        probabilities = policy.generators(population)[:, 0].exp()
        exact = policy(population)[0].exp()
    drawn = torch.stack([torch.multinomial(p, draws, True, generator=rng) for p in probabilities])
    score = score_classes(population.reward)[0].double()[drawn]
    picked = drawn.gather(0, score.argmax(dim=0, keepdim=True))[0]
    count = torch.bincount(picked, minlength=len(exact)).double()
    frequent = exact * draws > 5.0  # counts of rarer lists are not close to normal
    deviation = (draws * exact * (1.0 - exact)).sqrt()
    difference = ((count - draws * exact).abs() / deviation)[frequent]
    largest = float(difference.max())
    return {"draws": draws, "lists": int(frequent.sum()), "largest_deviation": largest}


def step_checks(fits: FamilyFits) -> dict[str, Any]:
    """Run all checks on the fitted families.

    Args:
        fits: with at least one best-of-k.
    """
    population = fits.population
    uniform = torch.full_like(population.log_prob, -math.log(len(population.lists)))
    policies: list[ListPolicy] = [
        *(fit.policy for fit in fits.singles.values()),
        *(fit.policy for fit in fits.mixtures.values()),
        *(fit.policy for fit in fits.best_of.values()),
    ]
    with torch.no_grad():
        fitted = [policy(population) for policy in policies]
    residuals = [gibbs_residual(population, x) for x in (population.log_prob, uniform, *fitted)]
    last = fits.best_of[max(fits.best_of)]
    return {
        "gibbs_residual": max(residuals),
        "sum_to_one": max(float((x.exp().sum(dim=1) - 1.0).abs().max()) for x in fitted),
        "lemma_ratio": lemma_ratio(2000, 20, fits.rng(7, 0)),
        "sampled_best_of": sampled_best_of(last.policy, population, 400_000, fits.rng(7, 1)),
    }
