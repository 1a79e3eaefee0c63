"""Starting points made from smaller fits: what a larger family contains, it must not fit worse."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from goalrank.studies.theory.families import Generators, Mixture, Single


def _into(target: Generators, source: Generators) -> None:
    """Put the source's units first; the units that are left over start without a say."""
    w = source.width
    with torch.no_grad():
        target.request[:, :, :w] = source.request
        target.prefix[:, :, :w] = source.prefix
        target.shift[:, :, :w] = source.shift
        target.out[:, :w] = source.out
        target.out[:, w:] = 0.0
        target.bias.copy_(source.bias)


def widened(source: Single, width: int, generator: torch.Generator) -> Single:
    """A wider generator that starts as the same policy: it contains the narrower one."""
    wide = Single(source.generators.sizes, width, generator)
    _into(wide.generators, source.generators)
    return wide


def widened_mixture(source: Mixture, width: int, generator: torch.Generator) -> Mixture:
    """A mixture of wider generators that starts as the same policy."""
    wide = Mixture(source.generators.sizes, source.generators.k, width, generator)
    _into(wide.generators, source.generators)
    with torch.no_grad():
        wide.gate.copy_(source.gate)
        wide.gate_bias.copy_(source.gate_bias)
    return wide


def doubled(source: Mixture, generator: torch.Generator, noise: float = 0.05) -> Mixture:
    """Twice as many generators: each split in two that differ by a little noise."""
    twice = copy.deepcopy(source)
    twice.generators.k = 2 * source.generators.k

    def split(x: Tensor, dim: int) -> torch.nn.Parameter:
        draw = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return torch.nn.Parameter(torch.cat([x, x + noise * draw], dim=dim).detach().clone())

    for name in ("request", "prefix", "shift", "out", "bias"):
        setattr(twice.generators, name, split(getattr(source.generators, name), 0))
    twice.gate, twice.gate_bias = split(source.gate, 1), split(source.gate_bias, 0)
    return twice


def stacked(source: Mixture, width: int, generator: torch.Generator) -> Single:
    """One wide generator on the hidden units of all small ones (width >= k·α).

    Its logits are the mean of theirs. That is the weight-sharing half of the embedding argument: a
    wide net holds k small ones, but the mixture is a sum of probabilities and its next-item chances
    are not linear in the hidden units, so this is where a fit starts and not the mixture itself.
    """
    small = source.generators
    wide = Single(small.sizes, width, generator)
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


def as_mixture(source: Single, generator: torch.Generator) -> Mixture:
    """One generator as a mixture of one, so that it can be doubled."""
    g = source.generators
    one = Mixture(g.sizes, 1, g.width, generator)
    _into(one.generators, g)
    with torch.no_grad():
        one.gate.zero_()
    return one
