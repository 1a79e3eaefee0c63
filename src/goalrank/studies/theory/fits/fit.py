"""Fit of a family to π* until it converges, from several starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from goalrank.compute import ParallelMap
from goalrank.errors import ConfigError, InfeasibleError
from goalrank.storage import json_values
from goalrank.studies.theory.fits.families import ListPolicy
from goalrank.studies.theory.population import Population
from goalrank.wording import counted

P = TypeVar("P", bound=ListPolicy)

MOST_STARTS = 64  # the random numbers of other starts are named by 98 and 99


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit: when it stops, and when it counts as converged.

    A fit has converged when the last ``chunk`` L-BFGS iterations lowered E by less than
    ``relative`` · E + ``floor``, or when the largest entry of the gradient is below ``gradient``.
    A fit that stops after ``iterations`` has *not* converged.

    Attributes:
        starts: random starts of every family, 1 to 64, in addition to starts made from smaller
            fits. Those of a smaller number are among those of a larger one.
        iterations: L-BFGS iterations, at most.
        chunk: iterations between two checks.
        relative: see above.
        floor: see above, in nats.
        gradient: see above.
    """

    starts: int = 2
    iterations: int = 2000
    chunk: int = 100
    relative: float = 5e-3
    floor: float = 1e-5
    gradient: float = 1e-7

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: starts or chunk out of range.
        """
        if not 1 <= self.starts <= MOST_STARTS or not 1 <= self.chunk <= self.iterations:
            raise ConfigError(
                f"starts={self.starts} must be in 1..{MOST_STARTS} and chunk={self.chunk} in "
                f"1..iterations={self.iterations}"
            )


@dataclass(frozen=True)
class StartResult:
    """Result of one start.

    Attributes:
        name: of the start.
        error: E in nats.
        converged: whether it converged.
        iterations: iterations used.
        gradient: largest entry of the gradient.
    """

    name: str
    error: float
    converged: bool
    iterations: int
    gradient: float


@dataclass(frozen=True)
class Fitted(Generic[P]):
    """Result of a fit: the best of several starts.

    Attributes:
        policy: the fitted policy.
        error: E = KL(π* ‖ π) averaged over requests, in nats; as for any fit, an upper bound of the
            family's infimum.
        converged: whether the best start converged.
        parameters: number of parameters of the policy.
        starts: result of every start.
    """

    policy: P
    error: float
    converged: bool
    parameters: int
    starts: tuple[StartResult, ...]

    def error_of(self, kind: str) -> float:
        """Least E among some starts; infinite if there is none.

        Args:
            kind: beginning of the names of these starts.
        """
        errors = (start.error for start in self.starts if start.name.startswith(kind))
        return min(errors, default=float("inf"))

    def summary(self) -> dict[str, Any]:
        """Make plain numbers for JSON; a start that overflowed has null for what is no number."""
        errors = [start.error for start in self.starts if math.isfinite(start.error)]
        return {
            "E": self.error,
            "converged": self.converged,
            "parameters": self.parameters,
            "spread_of_starts": max(errors) - min(errors),
            "starts": json_values([asdict(start) for start in self.starts]),
        }


def _gradient(policy: ListPolicy) -> float:
    return max(float(p.grad.abs().max()) for p in policy.parameters() if p.grad is not None)


def minimise(
    policy: P, population: Population, options: FitOptions, name: str
) -> tuple[P, StartResult]:
    """Minimise E over the weights of one policy by L-BFGS, in place.

    Args:
        policy: the start.
        population: the target.
        options: of the fit.
        name: of the start.

    Returns:
        The policy and the result of the start.
    """
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
        if error != error:  # NaN: a start can overflow and then counts as not converged
            return policy, StartResult(name, float("inf"), False, done, float("nan"))
    return policy, StartResult(name, last, converged, done, _gradient(policy))


def fit(
    starts: Sequence[tuple[str, P]],
    population: Population,
    options: FitOptions,
    parallel_map: ParallelMap = map,
) -> Fitted[P]:
    """Fit every start and keep the best.

    Args:
        starts: (name, policy) pairs, at least one; the policies are changed.
        population: the target.
        options: of the fit.
        parallel_map: `map`, or one that runs the starts in several processes.

    Raises:
        ConfigError: no start.
        InfeasibleError: every start overflowed.
    """
    if not starts:
        raise ConfigError("fit needs at least one start")
    names, policies = zip(*starts, strict=True)
    ended: list[tuple[P, StartResult]] = list(
        parallel_map(minimise, policies, repeat(population), repeat(options), names)
    )
    policy, best = min(ended, key=lambda end: end[1].error)
    if not math.isfinite(best.error):
        raise InfeasibleError(
            f"{counted(len(ended), 'start')} of {type(policy).__name__} overflowed, and no other is "
            f"left; remedy: more starts or another seed (option: --starts)"
        )
    ends = tuple(start for _, start in ended)
    return Fitted(policy, best.error, best.converged, policy.parameter_count(), ends)
