"""Known bias b of a simulated reward model: r̂ = r* + b."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from goalrank.errors import ConfigError
from goalrank.studies.theory.population import Population

BiasKind = Literal["noise", "popularity", "gaussian"]


def draw_bias(
    population: Population, kind: BiasKind, amplitude: float, generator: torch.Generator
) -> Tensor:
    """Draw the bias of every list.

    Args:
        population: M requests with P lists.
        kind: ``noise`` is independent and uniform in ±amplitude; ``popularity`` rises with the mean
            log popularity of the list's items, and the largest |b| of a request is ``amplitude``;
            ``gaussian`` is independent and normal with the variance of ``noise``, *not* bounded.
        amplitude: >= 0, in units of the reward.
        generator: of the random numbers.

    Returns:
        [M, P] b(l), in units of the reward.

    Raises:
        ConfigError: a negative amplitude or an unknown kind.
    """
    if not amplitude >= 0.0:
        raise ConfigError(f"amplitude={amplitude} must be at least 0")
    shape = population.reward.shape
    if kind == "noise":
        return (2.0 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1.0) * amplitude
    if kind == "gaussian":
        draw = torch.randn(shape, generator=generator, dtype=torch.float64)
        out: Tensor = draw * (amplitude / 3.0**0.5)
        return out
    if kind == "popularity":
        popularity = population.popularity
        largest = popularity.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
        return amplitude * popularity / largest
    raise ConfigError(f"kind={kind!r} must be one of noise, popularity, gaussian")
