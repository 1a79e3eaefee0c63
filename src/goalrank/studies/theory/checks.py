"""Numbers that check single steps of docs/theory.md, apart from the large experiments."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from goalrank.studies.theory.approximation import ErrorTable
from goalrank.studies.theory.best_of import score_classes
from goalrank.studies.theory.families import BestOf, ListPolicy
from goalrank.studies.theory.population import Population


def gibbs_residual(population: Population, log_prob: Tensor) -> float:
    """Largest |E_π[r*] + τ·H(π) − τ·log Z + τ·KL(π ‖ π*)| over requests; zero for every π [M, P]."""
    tau, p = population.temperature, log_prob.exp()
    value = (p * population.reward).sum(dim=1) - tau * (p * log_prob).sum(dim=1)
    top = tau * (population.reward / tau).logsumexp(dim=1)
    away = (p * (log_prob - population.log_prob)).sum(dim=1)
    return float((value - top + tau * away).abs().max())


def lemma_ratio(pairs: int, lists: int, rng: torch.Generator) -> float:
    """Largest total variation / tanh(Δ/4) over random pairs of policies; the lemma says <= 1.

    Half of the pairs have log-ratios of two values only, where the lemma is nearly an equality.
    """
    p = torch.randn(pairs, lists, generator=rng, dtype=torch.float64).log_softmax(dim=1)
    d = torch.rand(pairs, lists, generator=rng, dtype=torch.float64)
    d[: pairs // 2] = d[: pairs // 2].round()
    d = d * 10.0 * torch.rand(pairs, 1, generator=rng, dtype=torch.float64)
    q = (p + d).log_softmax(dim=1)
    spread = d.amax(dim=1) - d.amin(dim=1)
    apart = 0.5 * (p.exp() - q.exp()).abs().sum(dim=1)
    real = spread > 1e-9
    return float((apart[real] / torch.tanh(spread[real] / 4.0)).max())


def sampled_best_of(
    policy: BestOf, population: Population, draws: int, rng: torch.Generator
) -> dict[str, float]:
    """Draw, pick and count in the first request: how far from the exact chances, in deviations."""
    with torch.no_grad():
        chances = policy.generators(population)[:, 0].exp()
        exact = policy(population)[0].exp()
    drawn = torch.stack([torch.multinomial(p, draws, True, generator=rng) for p in chances])
    score = score_classes(population.reward)[0].double()[drawn]
    picked = drawn.gather(0, score.argmax(dim=0, keepdim=True))[0]
    count = torch.bincount(picked, minlength=len(exact)).double()
    seen = exact * draws > 5.0  # rarer lists have no normal deviation to speak of
    deviation = (draws * exact * (1.0 - exact)).sqrt()
    far = ((count - draws * exact).abs() / deviation)[seen]
    return {"draws": draws, "lists": int(seen.sum()), "largest_deviation": float(far.max())}


def step_checks(bench: ErrorTable) -> dict[str, Any]:
    """All of them for one bench of fitted families."""
    population = bench.population
    uniform = torch.full_like(population.log_prob, -math.log(len(population.lists)))
    policies: list[ListPolicy] = [
        *(fit.policy for fit in bench.singles.values()),
        *(fit.policy for fit in bench.mixtures.values()),
        *(fit.policy for fit in bench.best_of.values()),
    ]
    with torch.no_grad():
        fitted = [policy(population) for policy in policies]
    residuals = [gibbs_residual(population, x) for x in (population.log_prob, uniform, *fitted)]
    last = bench.best_of[max(bench.best_of)]
    return {
        "gibbs_residual": max(residuals),
        "sum_to_one": max(float((x.exp().sum(dim=1) - 1.0).abs().max()) for x in fitted),
        "lemma_ratio": lemma_ratio(2000, 20, bench.rng(7, 0)),
        "sampled_best_of": sampled_best_of(last.policy, population, 400_000, bench.rng(7, 1)),
    }
