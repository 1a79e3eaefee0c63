"""Enumeration of all lists: the exact optimum and the exact optimal policy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from goalrank.errors import ConfigError, DataError, InfeasibleError
from goalrank.worlds.world.response_model import ResponseModel
from goalrank.worlds.world.world import PlantedWorld

# Lists per request above which enumeration is refused; 2 million lists of 6 take about 0.1 GB.
LIST_LIMIT = 2_000_000
# Lists · slots² computed at once; bounds the memory of one chunk of requests.
_CHUNK = 8_000_000


def enumerate_lists(candidates: int, slots: int, *, limit: int = LIST_LIMIT) -> Tensor:
    """All ordered lists of L out of N candidates, in lexicographic order.

    Args:
        candidates: N.
        slots: L, in 1..N.
        limit: the most lists to enumerate.

    Returns:
        [P(N, L), L] int64 positions.

    Raises:
        ConfigError: N < L or L < 1.
        InfeasibleError: more than ``limit`` lists.
    """
    if not 1 <= slots <= candidates:
        raise ConfigError(f"slots={slots} must be in 1..candidates={candidates}")
    count = math.perm(candidates, slots)
    if count > limit:
        raise InfeasibleError(
            f"P({candidates}, {slots}) = {count:,} lists "
            f"({count * slots * 8 / 2**30:,.1f} GiB of positions) are over limit={limit:,}; "
            "remedy: near_optimum (beam and swap search with a reported gap), or fewer candidates "
            "or slots, or a higher limit if memory allows"
        )
    lists = torch.empty(1, 0, dtype=torch.int64)
    for _ in range(slots):
        free = torch.ones(len(lists), candidates, dtype=torch.bool).scatter_(1, lists, False)
        row, added = free.nonzero(as_tuple=True)
        lists = torch.cat([lists[row], added[:, None]], dim=1)
    return lists


def all_rewards(model: ResponseModel, lists: Tensor) -> Tensor:
    """True rewards r* of the same lists in every request, in chunks of bounded memory.

    Args:
        model: response model of B requests without padded candidates.
        lists: [P, L] positions.

    Returns:
        [B, P] float64.

    Raises:
        DataError: a request has padded candidates.
    """
    if not bool(model.mask.all()):
        raise DataError(
            "enumeration needs requests with equally many candidates; remedy: no padding (-1)"
        )
    slots = lists.shape[1]
    at_once = max(1, _CHUNK // (slots * slots * len(model.parameters.logit_shifts)))
    lists = lists.to(model.base.device)
    rows = max(1, at_once // len(lists))
    parts = []
    for start in range(0, len(model.base), rows):
        part = model.rows(slice(start, start + rows))
        b = len(part.base)
        parts.append(
            torch.cat([part.reward(x.expand(b, -1, -1)) for x in lists.split(at_once)], dim=1)
        )
    return torch.cat(parts) if parts else torch.empty(0, len(lists), dtype=torch.float64)


def exact_optimum(
    world: PlantedWorld,
    users: Tensor,
    items: Tensor,
    time: Tensor | None = None,
    *,
    limit: int = LIST_LIMIT,
) -> tuple[Tensor, Tensor]:
    """Find the best list by enumeration; of equal lists the lexicographically first.

    Args:
        world: the world of the requests.
        users: [B] user numbers.
        items: [B, N] item numbers.
        time: [B] days since the epoch; None is day 0.
        limit: the most lists to enumerate.

    Returns:
        Lists [B, L] and their reward [B].

    Raises:
        InfeasibleError: more than ``limit`` lists.
    """
    lists = enumerate_lists(items.shape[1], world.config.slots, limit=limit)
    rewards = all_rewards(world.response_model(users, items, time), lists)
    best = rewards.argmax(dim=1)
    value = rewards.gather(1, best[:, None]).squeeze(1)
    return lists.to(best.device)[best], value


@dataclass(frozen=True)
class OptimalPolicy:
    """π*(l) = exp(r*(l) / τ) / Z over all P lists of each of B requests.

    Attributes:
        lists: [P, L] positions, the same in every request.
        reward: [B, P] true reward r*.
        log_prob: [B, P] log π*.
        log_partition: [B] log Z = log of the sum of exp(r* / τ).
    """

    lists: Tensor
    reward: Tensor
    log_prob: Tensor
    log_partition: Tensor


def optimal_policy(
    world: PlantedWorld,
    users: Tensor,
    items: Tensor,
    *,
    temperature: float,
    time: Tensor | None = None,
    limit: int = LIST_LIMIT,
) -> OptimalPolicy:
    """The policy that maximises E[r*] + τ · entropy (GoalRank, arXiv 2509.22046).

    Args:
        world: the world of the requests.
        users: [B] user numbers.
        items: [B, N] item numbers.
        temperature: τ, above 0.
        time: [B] days since the epoch; None is day 0.
        limit: the most lists to enumerate.

    Raises:
        ConfigError: ``temperature`` is not positive.
        InfeasibleError: more than ``limit`` lists.
    """
    if not temperature > 0.0:
        raise ConfigError(f"temperature={temperature} must be positive; remedy: e.g. 1.0")
    lists = enumerate_lists(items.shape[1], world.config.slots, limit=limit)
    reward = all_rewards(world.response_model(users, items, time), lists)
    log_partition = (reward / temperature).logsumexp(dim=1)
    log_prob = reward / temperature - log_partition[:, None]
    return OptimalPolicy(lists.to(reward.device), reward, log_prob, log_partition)
