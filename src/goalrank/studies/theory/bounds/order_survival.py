"""Order survival: whether the order of lists within a group survives the bias of a reward model.

If |b| <= β then r̂(l) − r̂(l') > 2β implies r*(l) > r*(l'): pairs with a gap above 2β keep their
order, pairs with a smaller gap may not. If a group is thinned so that neighbouring rewards differ
by at least σ > 2β, every pair keeps its order, but the group has fewer lists.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from goalrank.errors import ConfigError
from goalrank.studies.theory.bounds.reward_bias import BiasKind, draw_bias
from goalrank.studies.theory.population import Population


def thin_by_gap(rewards: Tensor, sigma: float) -> Tensor:
    """Choose lists, best first, so that chosen neighbours differ by more than σ.

    The best list of a group is always chosen. σ = 0 chooses one list of each value.

    Args:
        rewards: [B, G].
        sigma: σ >= 0.

    Returns:
        [B, G] bool, True for the chosen lists.

    Raises:
        ConfigError: σ is negative.
    """
    if not sigma >= 0.0:
        raise ConfigError(f"sigma={sigma} must be at least 0")
    ordered, place = rewards.sort(dim=1, descending=True)
    keep = torch.zeros_like(place, dtype=torch.bool)
    last = torch.full_like(ordered[:, 0], torch.inf)
    for g in range(rewards.shape[1]):
        keep[:, g] = last - ordered[:, g] > sigma
        last = torch.where(keep[:, g], ordered[:, g], last)
    return torch.zeros_like(keep).scatter_(1, place, keep)


def pair_agreement(estimate: Tensor, truth: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compare the orders of r̂ and r* over all pairs within groups.

    Args:
        estimate: [B, G] r̂.
        truth: [B, G] r*.
        keep: [B, G] True for the lists that are kept.

    Returns:
        Three tensors [B, G·(G−1)/2]: the gap |r̂ − r̂'|, whether the orders agree (a pair that ties
        in r* but not in r̂ does not), and whether both lists are kept.
    """
    g = estimate.shape[1]
    i, j = torch.triu_indices(g, g, offset=1)
    ahead, truly = estimate[:, i] - estimate[:, j], truth[:, i] - truth[:, j]
    return ahead.abs(), torch.sign(ahead) == torch.sign(truly), keep[:, i] & keep[:, j]


def draw_groups(population: Population, size: int, draws: int, rng: torch.Generator) -> Tensor:
    """Draw uniformly random groups of distinct lists.

    Args:
        population: M requests with P lists.
        size: G, lists per group, 2 … P.
        draws: groups per request.
        rng: of the draws.

    Returns:
        [M, draws, size] indices of lists.

    Raises:
        ConfigError: the size is out of range.
    """
    m, p = population.reward.shape
    if not 2 <= size <= p:
        raise ConfigError(f"group size={size} must lie in 2..{p}, the number of lists")
    return torch.rand(m, draws, p, generator=rng).topk(size, dim=2).indices


def order_survival(
    population: Population,
    *,
    kind: BiasKind,
    amplitude: float,
    thresholds: list[float],
    size: int,
    draws: int,
    bins: int,
    seed: int,
) -> dict[str, Any]:
    """Measure the share of pairs whose order survives, by gap and by thinning threshold.

    Args:
        population: the requests with their true rewards.
        kind: of the bias, see `draw_bias`.
        amplitude: β.
        thresholds: σ in units of β.
        size: lists per group.
        draws: groups per request.
        bins: of the gap, equal in width from 0 to 3β.
        seed: of the bias and the groups.

    Returns:
        ``by_gap`` (gap in units of β: the bin's lower end; share; pairs), ``by_threshold`` (share of
        pairs, share of groups where the best list by r̂ is the best kept one by r*, kept lists,
        coverage of π*), ``broken_above_2beta`` (pairs with a wrong order and a gap above 2β) and
        ``widest_broken_gap`` in units of β.

    Raises:
        ConfigError: the size of the groups is out of range.
    """
    rng = torch.Generator().manual_seed(seed)
    estimate = population.reward + draw_bias(population, kind, amplitude, rng)
    groups = draw_groups(population, size, draws, rng).flatten(1)

    def of(x: Tensor) -> Tensor:
        return x.gather(1, groups).view(-1, size)

    r_hat, r_true, mass = of(estimate), of(population.reward), of(population.log_prob.exp())
    gap, agree, _ = pair_agreement(r_hat, r_true, torch.ones_like(r_hat, dtype=torch.bool))
    broken = gap[~agree]
    return {
        "kind": kind,
        "beta": amplitude,
        "pairs": gap.numel(),
        "broken": len(broken),
        "broken_above_2beta": int((broken > 2.0 * amplitude).sum()),
        "widest_broken_gap": float(broken.max()) / amplitude if len(broken) else 0.0,
        "by_gap": _by_gap(gap / amplitude, agree, bins),
        "by_threshold": [
            _by_threshold(r_hat, r_true, mass, sigma, amplitude) for sigma in thresholds
        ],
    }


def _by_gap(gap: Tensor, agree: Tensor, bins: int) -> dict[str, list[float | None]]:
    edge = 3.0 / bins
    at = (gap / edge).long().clamp_max(bins).flatten()
    pairs = torch.bincount(at, minlength=bins + 1)[:bins]
    kept = torch.bincount(at, agree.flatten().double(), minlength=bins + 1)[:bins]
    share = [float(k / n) if n else None for k, n in zip(kept.tolist(), pairs.tolist())]
    return {
        "gap": [edge * i for i in range(bins)],
        "share": share,
        "pairs": [float(n) for n in pairs.tolist()],
    }


def _by_threshold(
    r_hat: Tensor, r_true: Tensor, mass: Tensor, sigma: float, beta: float
) -> dict[str, float | None]:
    keep = thin_by_gap(r_hat, sigma * beta)
    _, agree, both = pair_agreement(r_hat, r_true, keep)
    pairs = int(both.sum())
    best = r_true.masked_fill(~keep, -torch.inf).argmax(dim=1)
    first = r_hat.masked_fill(~keep, -torch.inf).argmax(dim=1)
    return {
        "sigma": sigma,
        "share": float((agree & both).sum() / pairs) if pairs else None,
        "pairs": float(pairs),
        "best_survives": float((best == first).double().mean()),
        "kept": float(keep.double().sum(dim=1).mean()),
        "coverage": float((mass * keep).sum(dim=1).mean()),
    }
