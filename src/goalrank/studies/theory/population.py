"""A few requests of a tiny world with every list written out: what all exact numbers rest on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from goalrank.errors import ConfigError, InfeasibleError
from goalrank.worlds import World, WorldConfig, enumerate_lists, optimal_policy

# The laboratory's reach. Beyond it, exact expectations over all lists are no longer cheap.
MOST_CANDIDATES, MOST_SLOTS = 8, 4
# Numbers (8 bytes each) that one exact pass may hold at once: requests · lists · slots.
NUMBER_LIMIT = 2**27


@dataclass(frozen=True)
class Prefixes:
    """The tree of all beginnings of lists, shortest first (R of them, the empty one included).

    Attributes:
        first: [R, (L-1)·N] float64, a one-hot block for every filled slot.
        used: [R, N] True for candidates already placed.
        steps: [P, L] where the t-th step of a list stands in a flattened [R, N] table.
    """

    first: Tensor
    used: Tensor
    steps: Tensor


@dataclass(frozen=True)
class Population:
    """M requests, their P lists, the truth and the optimal policy π*(l) ∝ exp(r*(l) / τ).

    Attributes:
        lists: [P, L] positions, the same in every request.
        features: [M, F] what a generator sees of a request, standardised over requests.
        reward: [M, P] r*.
        log_prob: [M, P] log π*.
        popularity: [M, P] mean log popularity of a list's items, standardised per request;
            the raw material of a structured reward bias.
        temperature: τ.
        prefixes: the tree that autoregressive generators walk.
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
        """N."""
        return self.prefixes.used.shape[1]

    @property
    def entropy(self) -> Tensor:
        """H(π*) of each request in nats: [M]."""
        return -(self.log_prob.exp() * self.log_prob).sum(dim=1)

    def error(self, log_prob: Tensor) -> Tensor:
        """E = KL(π* ‖ π) averaged over requests, in nats, of log π [M, P]."""
        return (self.log_prob.exp() * (self.log_prob - log_prob)).sum(dim=1).mean()


def check_feasible(requests: int, candidates: int, slots: int) -> None:
    """Refuse what would not fit before anything is built.

    Raises:
        ConfigError: N or L outside the laboratory's reach.
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
    """All beginnings of the lists of L out of N; lists in the order of `enumerate_lists`."""
    total = math.perm(candidates, slots)
    first, used, steps = [], [], []
    offset = 0
    lists = enumerate_lists(candidates, slots)
    for t in range(slots):
        count = math.perm(candidates, t)
        # Lists are in lexicographic order, so those with the same beginning stand together.
        begin = lists[:: total // count, :t]
        hot = torch.zeros(count, (slots - 1), candidates, dtype=torch.float64)
        hot[:, :t] = torch.nn.functional.one_hot(begin, candidates).to(hot)
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

    A generator sees the user's taste, the candidates' vectors and their quality: everything that
    r* is made of except the clusters, in the order of the candidates.

    Args:
        config: the world (N <= 8, L <= 4).
        requests: M >= 1.
        temperature: τ > 0 of π*.
        seed: of the requests.

    Raises:
        ConfigError: sizes out of reach. InfeasibleError: too many numbers for memory.
    """
    check_feasible(requests, config.candidates, config.slots)
    world = World(config)
    table = world.sample(requests, seed=seed).frame
    users = torch.from_numpy(table["user_id"].to_numpy().astype(np.int64))
    items = torch.tensor(table["candidates"].to_list(), dtype=torch.int64)
    best = optimal_policy(world, users, items, temperature=temperature)
    latents = world.latents
    seen = [latents.users[users], latents.items[items].flatten(1), latents.quality[items]]
    fame = latents.popularity[items].log()[:, best.lists].mean(dim=2)
    return Population(
        lists=best.lists,
        features=_standardised(torch.cat(seen, dim=1), 0),
        reward=best.reward,
        log_prob=best.log_prob,
        popularity=_standardised(fame, 1),
        temperature=temperature,
        prefixes=prefix_tree(config.candidates, config.slots),
    )


def planted_population(like: Population, log_prob: Tensor) -> Population:
    """The same requests with another target policy log π [M, P], e.g. one of a known family."""
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
