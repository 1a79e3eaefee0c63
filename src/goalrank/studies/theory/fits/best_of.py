"""Exact distribution of the list that an evaluator picks from k independent draws.

Generator j draws a list from π_j, independently of the others; the evaluator picks the draw with
the highest score e, and one of them at random if several have it. With B_j(l) = P_j(e < e(l)) and
T_j(l) = P_j(e = e(l)), and 1/(1+s) = ∫₀¹ t^s dt for the probability of one draw among s others with
the same score::

    P(l) = Σ_j π_j(l) ∫₀¹ Π_{i≠j} (B_i(l) + t·T_i(l)) dt

If no two lists tie, this is Π_j P_j(e ≤ e(l)) − Π_j P_j(e < e(l)), but as a sum of positive terms,
so that no digits cancel. The integrand is a polynomial of degree k - 1 in t: a Gauss rule of ⌈k/2⌉ nodes
is exact, not an approximation.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from goalrank.errors import ConfigError

_TINY = 1e-300


def score_classes(score: Tensor, tolerance: float = 1e-12) -> Tensor:
    """Rank the score of each list among the distinct scores, the lowest being 0.

    Args:
        score: [M, P].
        tolerance: neighbours in the order that are closer count as tied.

    Returns:
        [M, P] int64.
    """
    ordered, place = score.sort(dim=1)
    fresh = torch.zeros_like(place)
    fresh[:, 1:] = (ordered.diff(dim=1) > tolerance).to(fresh)
    return torch.empty_like(place).scatter_(1, place, fresh.cumsum(dim=1))


def _gauss(k: int) -> tuple[Tensor, Tensor]:
    """Compute Gauss nodes and weights on [0, 1], exact for polynomials of degree k - 1."""
    x, w = np.polynomial.legendre.leggauss((k + 1) // 2)
    return torch.from_numpy((x + 1.0) / 2.0), torch.from_numpy(w / 2.0)


def best_of_log_prob(log_prob: Tensor, classes: Tensor) -> Tensor:
    """Compute log P(l) of the picked list; differentiable in ``log_prob``.

    Args:
        log_prob: [k, M, P] log π_j(l) of the k generators, float64.
        classes: [M, P] the evaluator's order as `score_classes` gives it.

    Returns:
        [M, P]; exp of it sums to one over lists.

    Raises:
        ConfigError: shapes that do not fit.
    """
    if log_prob.ndim != 3 or log_prob.shape[1:] != classes.shape:
        raise ConfigError(
            f"log_prob {tuple(log_prob.shape)} must be [k, M, P] and classes "
            f"{tuple(classes.shape)} [M, P]"
        )
    wide = classes.expand(log_prob.shape)
    mass = torch.zeros_like(log_prob).scatter_add(2, wide, log_prob.exp())
    # Running sums of the classes below: subtracting the own mass instead would cancel digits.
    below = torch.cat([torch.zeros_like(mass[..., :1]), mass.cumsum(dim=2)[..., :-1]], dim=2)
    below, tied = below.gather(2, wide), mass.gather(2, wide)
    nodes, weights = _gauss(len(log_prob))
    reach = below + nodes.to(below)[:, None, None, None] * tied  # [Q, k, M, P]
    log_reach = reach.clamp_min(_TINY).log()
    each = (log_prob - log_reach).logsumexp(dim=1) + log_reach.sum(dim=1)  # [Q, M, P]
    return (each + weights.to(each).log()[:, None, None]).logsumexp(dim=0)
