"""Three families of list policies, made from a small net that writes a list slot by slot.

The net has one hidden layer of ``width`` tanh units, which get the request's features and the first
slots of the list, and one output per candidate; candidates already in the list are masked. All
families give log π(l) of every list of every request, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from goalrank.studies.theory.fits.best_of import best_of_log_prob
from goalrank.studies.theory.population import Population


@dataclass(frozen=True)
class Sizes:
    """Input and output sizes of the nets.

    Attributes:
        features: F, request features.
        prefix: S = (L-1)·N, features of the first slots.
        candidates: N.
    """

    features: int
    prefix: int
    candidates: int

    @classmethod
    def of(cls, population: Population) -> Sizes:
        """Take the sizes from a population.

        Args:
            population: the population.
        """
        return cls(
            population.features.shape[1], population.prefixes.first.shape[1], population.candidates
        )

    def generator(self, width: int) -> int:
        """Count the parameters of one generator.

        Args:
            width: of the generator.
        """
        return width * (self.features + self.prefix + 1 + self.candidates) + self.candidates

    def mixture(self, k: int, width: int) -> int:
        """Count the parameters of k generators and a linear gate on the request's features.

        Args:
            k: number of generators.
            width: of each generator.
        """
        return k * (self.generator(width) + self.features + 1)

    def width_within(self, parameters: int) -> int:
        """Width of the widest single generator within a number of parameters; 0 if there is none.

        Args:
            parameters: at most.
        """
        return max(0, (parameters - self.candidates) // (self.generator(1) - self.candidates))


def _parameter(generator: torch.Generator, *shape: int, fan: int) -> nn.Parameter:
    draw = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return nn.Parameter(draw / max(fan, 1) ** 0.5)


class ListPolicy(nn.Module):
    """Base of policies that give log π(l) of every list."""

    def forward(self, population: Population) -> Tensor:
        """Compute log π(l) of every list.

        Args:
            population: M requests with P lists.

        Returns:
            [M, P].
        """
        raise NotImplementedError

    def parameter_count(self) -> int:
        """Count the free parameters."""
        return sum(p.numel() for p in self.parameters())


class Generators(nn.Module):
    """Block of k generators of equal width, computed together.

    Args:
        sizes: input and output sizes.
        k: number of generators.
        width: hidden units of each.
        generator: of the random numbers of the first weights.
    """

    def __init__(self, sizes: Sizes, k: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.sizes, self.k, self.width = sizes, k, width
        self.request = _parameter(generator, k, sizes.features, width, fan=sizes.features)
        self.prefix = _parameter(generator, k, sizes.prefix, width, fan=2)
        self.shift = _parameter(generator, k, 1, width, fan=1)
        self.out = _parameter(generator, k, width, sizes.candidates, fan=width)
        self.bias = nn.Parameter(torch.zeros(k, 1, sizes.candidates, dtype=torch.float64))

    def forward(self, population: Population) -> Tensor:
        """Compute log π_j(l) of every generator: [k, M, P]."""
        tree = population.prefixes
        seen = population.features @ self.request + self.shift  # [k, M, W]
        hidden = torch.tanh(seen[:, :, None] + (tree.first @ self.prefix)[:, None])  # [k, M, R, W]
        logit = (hidden.flatten(1, 2) @ self.out + self.bias).view(*hidden.shape[:3], -1)
        step = logit.masked_fill(tree.used, -torch.inf).log_softmax(dim=3).flatten(2)
        result: Tensor = step[:, :, tree.steps.flatten()].unflatten(2, tree.steps.shape).sum(dim=3)
        return result


class SingleGenerator(ListPolicy):
    """Policy of one generator.

    Args:
        sizes: input and output sizes.
        width: hidden units.
        generator: of the random numbers of the first weights.
    """

    def __init__(self, sizes: Sizes, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.generators = Generators(sizes, 1, width, generator)

    def forward(self, population: Population) -> Tensor:
        """Compute log π(l): [M, P]."""
        log_prob: Tensor = self.generators(population)
        return log_prob[0]


class Mixture(ListPolicy):
    """Mixture π = Σ_j g_j(request) π_j, with a learned linear gate g = softmax(V·features + c).

    Args:
        sizes: input and output sizes.
        k: number of generators.
        width: hidden units of each.
        generator: of the random numbers of the first weights.
    """

    def __init__(self, sizes: Sizes, k: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.generators = Generators(sizes, k, width, generator)
        self.gate = _parameter(generator, sizes.features, k, fan=sizes.features)
        self.gate_bias = nn.Parameter(torch.zeros(k, dtype=torch.float64))

    def forward(self, population: Population) -> Tensor:
        """Compute log π(l): [M, P]."""
        gate = (population.features @ self.gate + self.gate_bias).log_softmax(dim=1)  # [M, k]
        out: Tensor = (self.generators(population) + gate.T[:, :, None]).logsumexp(dim=0)
        return out


class BestOf(ListPolicy):
    """Policy in which k generators draw a list each and an evaluator picks one; exact.

    See `goalrank.studies.theory.fits.best_of`.

    Args:
        sizes: input and output sizes.
        k: number of generators.
        width: hidden units of each.
        classes: [M, P] the evaluator's order of the lists, from `score_classes`. The evaluator is
            given, not learned, and its parameters are not counted, which favours this family.
        generator: of the random numbers of the first weights.
    """

    classes: Tensor

    def __init__(
        self, sizes: Sizes, k: int, width: int, classes: Tensor, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.generators = Generators(sizes, k, width, generator)
        self.register_buffer("classes", classes)

    def forward(self, population: Population) -> Tensor:
        """Compute log P(l) of the picked list: [M, P]."""
        return best_of_log_prob(self.generators(population), self.classes)
