"""How good lists and policies are when the truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from goalrank.errors import DataError


def _same(name: str, a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.numel() == 0:
        raise DataError(
            f"{name}: shapes {tuple(a.shape)} and {tuple(b.shape)} must be equal and not empty"
        )


def regret(reward: Tensor, best: Tensor) -> Tensor:
    """best - reward, a request: [B]. Negative only where a near-optimum ``best`` was beaten."""
    _same("regret", reward, best)
    return best - reward


def share_exact(reward: Tensor, best: Tensor, tolerance: float = 1e-9) -> float:
    """Share of requests whose list is worth the best, in [0, 1].

    Lists are compared by value, so another list of the same worth counts as exact.
    """
    _same("share_exact", reward, best)
    return float((reward >= best - tolerance).double().mean())


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) = sum of p · (log p - log q), in nats: [B, P] and [B, P] → [B].

    Lists with p = 0 add nothing; infinite where q = 0 and p > 0.
    """
    _same("kl_divergence", log_p, log_q)
    p = log_p.exp()
    return torch.where(p > 0.0, p * (log_p - log_q), 0.0).sum(dim=1)


@dataclass(frozen=True)
class Measures:
    """Means over requests.

    Attributes:
        reward: mean true reward; standard_error of it (sample standard deviation / sqrt B).
        regret: mean of best - reward.
        share_of_best: mean reward / mean best.
        share_exact: share of requests whose list is worth the best.
        requests: B.
    """

    reward: float
    standard_error: float
    regret: float
    share_of_best: float
    share_exact: float
    requests: int


def measure(reward: Tensor, best: Tensor) -> Measures:
    """Summary of lists by their true reward [B] and the (near-)optimum [B] of their requests."""
    _same("measure", reward, best)
    reward, best = reward.double(), best.double()
    count = len(reward)
    error = float(reward.std()) / count**0.5 if count > 1 else float("nan")
    return Measures(
        reward=float(reward.mean()),
        standard_error=error,
        regret=float(regret(reward, best).mean()),
        share_of_best=float(reward.mean() / best.mean()),
        share_exact=share_exact(reward, best),
        requests=count,
    )
