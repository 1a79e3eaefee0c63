"""Planted faults of a reward model: r̂ = r* + b with a known bias b."""

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
    """b(l) of every list: [M, P], in units of the reward.

    Args:
        population: whose lists.
        kind: ``noise`` independent uniform in ±amplitude; ``popularity`` rises with the mean log
            popularity of the list's items, the largest |b| of a request being ``amplitude``;
            ``gaussian`` independent normal with the uniform's variance, *not* bounded.
        amplitude: >= 0.

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
        fame = population.popularity
        return amplitude * fame / fame.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
    raise ConfigError(f"kind={kind!r} must be one of noise, popularity, gaussian")
