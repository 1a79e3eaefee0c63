"""Population: a few requests of a tiny world with all their lists, for exact expectations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from goalrank.errors import ConfigError, InfeasibleError
from goalrank.worlds import World, WorldConfig, enumerate_lists, optimal_policy

# Largest sizes of the laboratory. Beyond them, exact expectations over all lists cost too much.
MOST_CANDIDATES, MOST_SLOTS = 8, 4
# Numbers (8 bytes each) that one exact pass may hold at once: requests · lists · slots.
NUMBER_LIMIT = 2**27


@dataclass(frozen=True)
class Prefixes:
    """Tree of all prefixes of lists, shortest first (R of them, including the empty one).

    Attributes:
        first: [R, (L-1)·N] float64, a one-hot block per filled slot.
        used: [R, N] True for candidates in the prefix.
        steps: [P, L] index of the t-th step of a list in a flattened [R, N] table.
    """

    first: Tensor
    used: Tensor
    steps: Tensor


@dataclass(frozen=True)
class Population:
    """M requests, their P lists, the true reward r* and the optimal policy π*(l) ∝ exp(r*(l) / τ).

    Attributes:
        lists: [P, L] positions, the same in every request.
        features: [M, F] features of a request for generators, standardised over requests.
        reward: [M, P] r*.
        log_prob: [M, P] log π*.
        popularity: [M, P] mean log popularity of a list's items, standardised per request; a
            structured reward bias is made from it.
        temperature: τ.
        prefixes: tree of the prefixes of lists, for generators.
    """

    lists: Tensor
    features: Tensor
    reward: Tensor
    log_prob: Tensor
    popularity: Tensor
    temperature: float
    prefixes: Prefixes

    @property
    def candidates(self) -> int:
        """N, number of candidates."""
        return self.prefixes.used.shape[1]

    @property
    def entropy(self) -> Tensor:
        """Entropy H(π*) of each request in nats: [M]."""
        return -(self.log_prob.exp() * self.log_prob).sum(dim=1)

    def error(self, log_prob: Tensor) -> Tensor:
        """Compute E = KL(π* ‖ π), averaged over requests, in nats.

        Args:
            log_prob: [M, P] log π.
        """
        return (self.log_prob.exp() * (self.log_prob - log_prob)).sum(dim=1).mean()


def check_feasible(requests: int, candidates: int, slots: int) -> None:
    """Refuse sizes that cannot be enumerated, before anything is built.

    Args:
        requests: M.
        candidates: N.
        slots: L.

    Raises:
        ConfigError: M, N or L outside the limits of the laboratory.
        InfeasibleError: the tables of all lists would be too large.
    """
    if not (1 <= slots <= MOST_SLOTS and slots <= candidates <= MOST_CANDIDATES):
        raise ConfigError(
            f"slots={slots}, candidates={candidates}: the laboratory enumerates every list and "
            f"takes slots in 1..{MOST_SLOTS} and candidates in slots..{MOST_CANDIDATES}; remedy: "
            "a smaller world, or near_optimum (beam and swap search) for larger ones"
        )
    if requests < 1:
        raise ConfigError(f"requests={requests} must be at least 1")
    lists = math.perm(candidates, slots)
    numbers = requests * lists * slots
    if numbers > NUMBER_LIMIT:
        raise InfeasibleError(
            f"requests={requests} × P({candidates}, {slots}) = {lists:,} lists × {slots} slots is "
            f"{numbers:,} numbers ({numbers * 8 / 2**30:,.1f} GiB), over the limit of "
            f"{NUMBER_LIMIT:,}; remedy: at most requests={NUMBER_LIMIT // (lists * slots):,} "
            "here, or fewer candidates or slots"
        )


def prefix_tree(candidates: int, slots: int) -> Prefixes:
    """Make the tree of all prefixes; lists are in the order of `enumerate_lists`.

    Args:
        candidates: N.
        slots: L.
    """
    total = math.perm(candidates, slots)
    first, used, steps = [], [], []
    offset = 0
    lists = enumerate_lists(candidates, slots)
    for t in range(slots):
        count = math.perm(candidates, t)
        # Lists are in lexicographic order, so those with the same prefix are neighbours.
        prefix = lists[:: total // count, :t]
        hot = torch.zeros(count, (slots - 1), candidates, dtype=torch.float64)
        hot[:, :t] = torch.nn.functional.one_hot(prefix, candidates).to(hot)
        first.append(hot.flatten(1))
        used.append(hot.sum(dim=1) > 0)
        row = offset + torch.arange(total) // (total // count)
        steps.append(row * candidates + lists[:, t])
        offset += count
    return Prefixes(torch.cat(first), torch.cat(used), torch.stack(steps, dim=1))


def _standardised(x: Tensor, dim: int) -> Tensor:
    centred = x - x.mean(dim=dim, keepdim=True)
    scale = centred.square().mean(dim=dim, keepdim=True).sqrt()
    return centred / torch.where(scale > 1e-12, scale, torch.ones_like(scale))


def make_population(
    config: WorldConfig, requests: int, *, temperature: float, seed: int
) -> Population:
    """Draw M requests of a world and enumerate all their lists.

    The features for generators are the user's taste, the candidates' vectors and their quality, in
    the order of the candidates: everything that r* depends on except the clusters.

    Args:
        config: the world (N <= 8, L <= 4).
        requests: M >= 1.
        temperature: τ > 0 of π*.
        seed: of the requests.

    Raises:
        ConfigError: sizes outside the limits of the laboratory.
        InfeasibleError: too many numbers for memory.
    """
    check_feasible(requests, config.candidates, config.slots)
    world = World(config)
    table = world.sample(requests, seed=seed).frame
    users = torch.from_numpy(table["user_id"].to_numpy().astype(np.int64))
    items = torch.tensor(table["candidates"].to_list(), dtype=torch.int64)
    best = optimal_policy(world, users, items, temperature=temperature)
    latents = world.latents
    seen = [latents.users[users], latents.items[items].flatten(1), latents.quality[items]]
    popularity = latents.popularity[items].log()[:, best.lists].mean(dim=2)
    return Population(
        lists=best.lists,
        features=_standardised(torch.cat(seen, dim=1), 0),
        reward=best.reward,
        log_prob=best.log_prob,
        popularity=_standardised(popularity, 1),
        temperature=temperature,
        prefixes=prefix_tree(config.candidates, config.slots),
    )


def population_for_policy(like: Population, log_prob: Tensor) -> Population:
    """Make a population with another optimal policy, e.g. one of a known family.

    Args:
        like: gives everything else.
        log_prob: [M, P] log π of that policy.
    """
    reward = like.temperature * log_prob
    return Population(
        lists=like.lists,
        features=like.features,
        reward=reward,
        log_prob=log_prob,
        popularity=like.popularity,
        temperature=like.temperature,
        prefixes=like.prefixes,
    )
