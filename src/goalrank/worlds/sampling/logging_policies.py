"""Policies that fill a log: Plackett–Luce draws with the exact probability of each list."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from goalrank.worlds.sampling.request_draws import DrawnRequests, gumbel
from goalrank.worlds.world.config import LoggingConfig
from goalrank.worlds.world.world import PlantedWorld


class BehaviourPolicy(Protocol):
    """Anything that answers requests with lists: the logging policy, or a trained ranker.

    ``asked_table(asked)`` gives the same requests as a table, for rankers that need one.
    """

    name: str

    def __call__(
        self, world: PlantedWorld, asked: DrawnRequests, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Lists [B, L] (positions; -1 ends a list) and P(list) [B], or None when not known."""
        ...


def gumbel_top_k(scores: Tensor, slots: int, generator: torch.Generator) -> Tensor:
    """Plackett–Luce draw of ordered lists: scores [B, N] (logits) → [B, L]."""
    return (scores + gumbel(scores.shape, generator)).topk(slots, dim=1).indices


def list_log_prob(scores: Tensor, lists: Tensor) -> Tensor:
    """log P(list) under Plackett–Luce: scores [B, N], lists [B, L] → [B].

    P(l) = product over t of exp(s_{l_t}) / sum of exp(s_i) over i not in l_0..l_{t-1}.
    """
    left = scores.clone()
    total = torch.zeros(len(scores), dtype=scores.dtype)
    for t in range(lists.shape[1]):
        place = lists[:, t : t + 1]
        total = total + (scores.gather(1, place).squeeze(1) - left.logsumexp(dim=1))
        left = left.scatter(1, place, -math.inf)
    return total


def set_log_prob(scores: Tensor, lists: Tensor) -> Tensor:
    """log P(the same items in any order) under Plackett–Luce, by a sum over subsets: [B].

    f({}) = 1, f(S) = sum over i in S of f(S \\ i) · w_i / (W - w(S \\ i)); 2^L · L steps.
    """
    slots = lists.shape[1]
    scores = scores - scores.logsumexp(dim=1, keepdim=True)
    weight = scores.exp().gather(1, lists)  # [B, L], with W = 1
    # What is outside the list is summed by itself, so that nothing cancels.
    outside = scores.exp().scatter(1, lists, 0.0).sum(dim=1)
    f = [torch.ones(len(scores), dtype=scores.dtype)]
    for subset in range(1, 2**slots):
        part = torch.zeros_like(outside)
        for i in range(slots):
            if subset >> i & 1:
                rest = [j for j in range(slots) if not (subset ^ 1 << i) >> j & 1]
                part = part + f[subset ^ 1 << i] * weight[:, i] / (
                    outside + weight[:, rest].sum(dim=1)
                )
        f.append(part)
    return f[-1].log()


class LoggingPolicy:
    """Mixture of random, noisy-pointwise and popular Plackett–Luce policies, then a shuffle.

    The propensity is exact given what the policy saw (the candidates, ``candidate_score`` and
    popularity): P(l) = sum over m of share_m · [(1 - shuffle) · PL_m(l)
    + shuffle / L! · PL_m(items of l in any order)].

    Args:
        config: shares, temperature and shuffle.
        name: written to the ``policy`` column.
    """

    def __init__(self, config: LoggingConfig, name: str = "logging") -> None:
        self.config = config
        self.name = name

    def _members(self, world: PlantedWorld, asked: DrawnRequests) -> list[tuple[float, Tensor]]:
        score, fame = asked.scores, world.fame[asked.items]
        members = [
            (self.config.random, torch.zeros_like(score)),
            (self.config.pointwise, score / self.config.temperature),
            (self.config.popular, fame / self.config.temperature),
        ]
        return [member for member in members if member[0] > 0.0]

    def log_prob(self, world: PlantedWorld, asked: DrawnRequests, lists: Tensor) -> Tensor:
        """log P(list) [B] of lists [B, L]."""
        shuffle = self.config.shuffle
        terms = []
        for share, scores in self._members(world, asked):
            if shuffle < 1.0:
                straight = math.log(share) + math.log1p(-shuffle)
                terms.append(straight + list_log_prob(scores, lists))
            if shuffle > 0.0:
                mixed = math.log(share) + math.log(shuffle) - math.lgamma(lists.shape[1] + 1)
                terms.append(mixed + set_log_prob(scores, lists))
        return torch.stack(terms).logsumexp(dim=0)

    def slot_propensity(
        self, world: PlantedWorld, asked: DrawnRequests, lists: Tensor
    ) -> Tensor | None:
        """P(item | items before it) [B, L] of lists [B, L]; None with a shuffle.

        A prefix of a mixture is a mixture of prefixes. After a shuffle it is a sum over all sets
        that hold the prefix, which is not worth its cost.
        """
        if self.config.shuffle > 0.0:
            return None
        members = self._members(world, asked)
        prefixes = []
        for stop in range(1, lists.shape[1] + 1):
            terms = [math.log(s) + list_log_prob(x, lists[:, :stop]) for s, x in members]
            prefixes.append(torch.stack(terms).logsumexp(dim=0))
        steps = torch.stack(prefixes, dim=1)
        return steps.diff(dim=1, prepend=torch.zeros_like(steps[:, :1])).exp()

    def __call__(
        self, world: PlantedWorld, asked: DrawnRequests, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Draw one list a request: lists [B, L], P(list) [B]."""
        members = self._members(world, asked)
        b, slots = len(asked.items), world.config.slots
        shares = torch.tensor([share for share, _ in members], dtype=torch.float64)
        pick = torch.multinomial(shares, b, replacement=True, generator=generator)
        scores = torch.stack([scores for _, scores in members])[pick, torch.arange(b)]
        lists = gumbel_top_k(scores, slots, generator)
        order = torch.rand(b, slots, generator=generator).argsort(dim=1)
        mixed = torch.rand(b, generator=generator) < self.config.shuffle
        lists = torch.where(mixed[:, None], lists.gather(1, order), lists)
        return lists, self.log_prob(world, asked, lists).exp()
