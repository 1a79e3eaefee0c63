"""Measures of lists and policies against known true rewards."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from goalrank.errors import DataError


def _check_shapes(name: str, a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.numel() == 0:
        raise DataError(
            f"{name}: shapes {tuple(a.shape)} and {tuple(b.shape)} must be equal and not empty"
        )


def regret(reward: Tensor, best: Tensor) -> Tensor:
    """Regret per request, best - reward: [B].

    Args:
        reward: [B] true reward.
        best: [B] reward of the (near-)optimum. Regret is negative where a list is better than a
            near-optimum.

    Raises:
        DataError: shapes differ or are empty.
    """
    _check_shapes("regret", reward, best)
    return best - reward


def share_exact(reward: Tensor, best: Tensor, tolerance: float = 1e-9) -> float:
    """Share of requests whose list has the best reward, in [0, 1].

    Lists are compared by reward, so another list of the same reward counts as exact.

    Args:
        reward: [B] true reward.
        best: [B] reward of the (near-)optimum.
        tolerance: largest difference that counts as equal.

    Raises:
        DataError: shapes differ or are empty.
    """
    _check_shapes("share_exact", reward, best)
    return float((reward >= best - tolerance).double().mean())


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Kullback–Leibler divergence KL(p ‖ q) = sum of p · (log p - log q), in nats.

    Lists with p = 0 add 0; the divergence is infinite where q = 0 and p > 0.

    Args:
        log_p: [B, P].
        log_q: [B, P].

    Returns:
        [B].

    Raises:
        DataError: shapes differ or are empty.
    """
    _check_shapes("kl_divergence", log_p, log_q)
    p = log_p.exp()
    return torch.where(p > 0.0, p * (log_p - log_q), 0.0).sum(dim=1)


@dataclass(frozen=True)
class Measures:
    """Means over requests.

    Attributes:
        reward: mean true reward.
        standard_error: standard error of that mean (sample standard deviation / sqrt B).
        regret: mean of best - reward.
        share_of_best: mean reward / mean best.
        share_exact: share of requests whose list has the best reward.
        requests: B.
    """

    reward: float
    standard_error: float
    regret: float
    share_of_best: float
    share_exact: float
    requests: int


def measure(reward: Tensor, best: Tensor) -> Measures:
    """Summarise the true reward of one list per request.

    Args:
        reward: [B] true reward of the lists.
        best: [B] true reward of the (near-)optimum.

    Raises:
        DataError: shapes differ or are empty.
    """
    _check_shapes("measure", reward, best)
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
