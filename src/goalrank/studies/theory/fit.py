"""Fitting a family to π* until it has converged, from several starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from goalrank.compute import ParallelMap
from goalrank.errors import ConfigError
from goalrank.studies.theory.families import ListPolicy
from goalrank.studies.theory.population import Population

P = TypeVar("P", bound=ListPolicy)


@dataclass(frozen=True)
class FitOptions:
    """When a fit stops and when it counts as converged.

    A fit has converged when the last ``chunk`` L-BFGS iterations lowered E by less than
    ``relative`` · E + ``floor``, or the largest entry of the gradient is below ``gradient``. It stops
    there or after ``iterations``; stopped there it has *not* converged.

    Attributes:
        starts: random starts of every family (starts made from smaller fits come on top).
        iterations, chunk: L-BFGS iterations at most, and between two checks.
        relative, floor (nats), gradient: see above.
    """

    starts: int = 2
    iterations: int = 2000
    chunk: int = 100
    relative: float = 5e-3
    floor: float = 1e-5
    gradient: float = 1e-7

    def __post_init__(self) -> None:
        if self.starts < 1 or not 1 <= self.chunk <= self.iterations:
            raise ConfigError(
                f"starts={self.starts} must be at least 1 and chunk={self.chunk} in "
                f"1..iterations={self.iterations}"
            )


@dataclass(frozen=True)
class Start:
    """How one start ended: E in nats, iterations used, largest gradient entry."""

    name: str
    error: float
    converged: bool
    iterations: int
    gradient: float


@dataclass(frozen=True)
class Fitted(Generic[P]):
    """The best of several starts.

    Attributes:
        policy: the fitted family member.
        error: E = KL(π* ‖ π) averaged over requests, in nats; an upper bound of the family's
            infimum, as any fit is.
        converged: whether the best start converged.
        parameters: of the family.
        starts: how every start ended.
    """

    policy: P
    error: float
    converged: bool
    parameters: int
    starts: tuple[Start, ...]

    def error_of(self, kind: str) -> float:
        """Least E among the starts whose name begins with ``kind``; infinite if there is none."""
        errors = (start.error for start in self.starts if start.name.startswith(kind))
        return min(errors, default=float("inf"))

    def summary(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        errors = [start.error for start in self.starts]
        return {
            "E": self.error,
            "converged": self.converged,
            "parameters": self.parameters,
            "spread_of_starts": max(errors) - min(errors),
            "starts": [asdict(start) for start in self.starts],
        }


def _gradient(policy: ListPolicy) -> float:
    return max(float(p.grad.abs().max()) for p in policy.parameters() if p.grad is not None)


def descend(policy: P, population: Population, options: FitOptions, name: str) -> tuple[P, Start]:
    """Minimise E over one policy's weights by L-BFGS, in place; the policy and how it ended."""
    optimizer = torch.optim.LBFGS(
        policy.parameters(),
        lr=1.0,
        max_iter=options.chunk,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=options.gradient,
        tolerance_change=0.0,
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        error = population.error(policy(population))
        error.backward()
        return error

    last, done, converged = float(closure().detach()), 0, False
    while done < options.iterations and not converged:
        optimizer.step(closure)
        error, done = float(closure().detach()), done + options.chunk
        gain = last - error
        converged = _gradient(policy) < options.gradient
        converged |= -1e-12 <= gain < options.relative * error + options.floor
        last = error
        if error != error:  # a start can overflow; it is then reported as not converged
            return policy, Start(name, float("inf"), False, done, float("nan"))
    return policy, Start(name, last, converged, done, _gradient(policy))


def fit(
    starts: Sequence[tuple[str, P]],
    population: Population,
    options: FitOptions,
    spread: ParallelMap = map,
) -> Fitted[P]:
    """Fit every start and keep the best.

    Args:
        starts: (name, policy) pairs, at least one; the policies are changed.
        spread: how the starts are gone through, see `spread_over`.

    Raises:
        ConfigError: no start.
    """
    if not starts:
        raise ConfigError("fit needs at least one start")
    names, policies = zip(*starts, strict=True)
    ended: list[tuple[P, Start]] = list(
        spread(descend, policies, repeat(population), repeat(options), names)
    )
    policy, best = min(ended, key=lambda end: end[1].error)
    ends = tuple(start for _, start in ended)
    return Fitted(policy, best.error, best.converged, policy.parameter_count(), ends)
