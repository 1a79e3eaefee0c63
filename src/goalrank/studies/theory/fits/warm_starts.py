"""Starts made from smaller fits, as a larger family must not fit worse than one that it contains."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from goalrank.studies.theory.fits.families import Generators, Mixture, SingleGenerator


def _copy_units(target: Generators, source: Generators) -> None:
    """Copy the units of the source; the other units start with output weights of 0."""
    w = source.width
    with torch.no_grad():
        target.request[:, :, :w] = source.request
        target.prefix[:, :, :w] = source.prefix
        target.shift[:, :, :w] = source.shift
        target.out[:, :w] = source.out
        target.out[:, w:] = 0.0
        target.bias.copy_(source.bias)


def widened(source: SingleGenerator, width: int, generator: torch.Generator) -> SingleGenerator:
    """Make a wider generator that is the same policy.

    Args:
        source: the narrower generator.
        width: of the new one, at least that of the source.
        generator: of the random numbers of the other units.
    """
    wide = SingleGenerator(source.generators.sizes, width, generator)
    _copy_units(wide.generators, source.generators)
    return wide


def widened_mixture(source: Mixture, width: int, generator: torch.Generator) -> Mixture:
    """Make a mixture of wider generators that is the same policy.

    Args:
        source: the mixture of narrower generators.
        width: of the new generators, at least that of the source.
        generator: of the random numbers of the other units.
    """
    wide = Mixture(source.generators.sizes, source.generators.k, width, generator)
    _copy_units(wide.generators, source.generators)
    with torch.no_grad():
        wide.gate.copy_(source.gate)
        wide.gate_bias.copy_(source.gate_bias)
    return wide


def doubled(source: Mixture, generator: torch.Generator, noise: float = 0.05) -> Mixture:
    """Make a mixture of twice as many generators; each is copied twice, once with noise.

    Args:
        source: the mixture.
        generator: of the noise.
        noise: its standard deviation.
    """
    twice = copy.deepcopy(source)
    twice.generators.k = 2 * source.generators.k

    def split(x: Tensor, dim: int) -> torch.nn.Parameter:
        draw = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return torch.nn.Parameter(torch.cat([x, x + noise * draw], dim=dim).detach().clone())

    for name in ("request", "prefix", "shift", "out", "bias"):
        setattr(twice.generators, name, split(getattr(source.generators, name), 0))
    twice.gate, twice.gate_bias = split(source.gate, 1), split(source.gate_bias, 0)
    return twice


def stacked(source: Mixture, width: int, generator: torch.Generator) -> SingleGenerator:
    """Make one wide generator from the hidden units of all generators of a mixture.

    Its logits are the means of theirs. A wide net can contain k small ones, but the mixture is a
    sum of probabilities, which are not linear in the hidden units. So this is a start of a fit and
    not the same policy as the mixture.

    Args:
        source: the mixture.
        width: of the new generator, at least k·α.
        generator: of the random numbers of the other units.
    """
    small = source.generators
    wide = SingleGenerator(small.sizes, width, generator)
    used = small.k * small.width
    g = wide.generators
    with torch.no_grad():
        g.request[0, :, :used] = small.request.transpose(0, 1).flatten(1)
        g.prefix[0, :, :used] = small.prefix.transpose(0, 1).flatten(1)
        g.shift[0, :, :used] = small.shift.transpose(0, 1).flatten(1)
        g.out[0, :used] = small.out.flatten(0, 1) / small.k
        g.out[0, used:] = 0.0
        g.bias[0] = small.bias.mean(dim=0)
    return wide


def as_mixture(source: SingleGenerator, generator: torch.Generator) -> Mixture:
    """Make a mixture of one generator, so that it can be doubled.

    Args:
        source: the generator.
        generator: of the random numbers of the gate's offset.
    """
    g = source.generators
    one = Mixture(g.sizes, 1, g.width, generator)
    _copy_units(one.generators, g)
    with torch.no_grad():
        one.gate.zero_()
    return one
