"""Logging policies: Plackett–Luce draws with the exact probability of each list."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from goalrank.worlds.sampling.request_draws import DrawnRequests, gumbel
from goalrank.worlds.world.config import LoggingConfig
from goalrank.worlds.world.world import PlantedWorld


class BehaviourPolicy(Protocol):
    """A policy that chooses the lists of a log: the logging policy or a trained ranker.

    `drawn_table` turns the drawn requests into a requests table, for rankers that need one.

    Attributes:
        name: written to the ``policy`` column.
    """

    name: str

    def __call__(
        self, world: PlantedWorld, drawn: DrawnRequests, generator: torch.Generator, /
    ) -> tuple[Tensor, Tensor | None]:
        """Choose a list per request.

        Args:
            world: the world of the requests.
            drawn: B requests.
            generator: source of randomness.

        Returns:
            Lists [B, L] (positions; -1 ends a list) and P(list) [B], None where it is not known.
        """
        ...


def gumbel_top_k(scores: Tensor, slots: int, generator: torch.Generator) -> Tensor:
    """Draw ordered lists from Plackett–Luce by the Gumbel top-k trick.

    Args:
        scores: [B, N] logits.
        slots: L.
        generator: source of randomness.

    Returns:
        [B, L] positions.
    """
    return (scores + gumbel(scores.shape, generator)).topk(slots, dim=1).indices


def list_log_prob(scores: Tensor, lists: Tensor) -> Tensor:
    """Log-probability of lists under Plackett–Luce.

    P(l) = product over t of exp(s_{l_t}) / sum of exp(s_i) over i not in l_0..l_{t-1}.

    Args:
        scores: [B, N] logits.
        lists: [B, L] positions.

    Returns:
        [B].
    """
    remaining = scores.clone()
    total = torch.zeros(len(scores), dtype=scores.dtype)
    for t in range(lists.shape[1]):
        index = lists[:, t : t + 1]
        total = total + (scores.gather(1, index).squeeze(1) - remaining.logsumexp(dim=1))
        remaining = remaining.scatter(1, index, -math.inf)
    return total


def set_log_prob(scores: Tensor, lists: Tensor) -> Tensor:
    """Log-probability under Plackett–Luce of the same items in any order, by a sum over subsets.

    With "S - i" the set S without i: f({}) = 1 and f(S) = sum over i in S of
    f(S - i) · w_i / (W - w(S - i)). Takes 2^L · L steps.

    Args:
        scores: [B, N] logits.
        lists: [B, L] positions.

    Returns:
        [B].
    """
    slots = lists.shape[1]
    scores = scores - scores.logsumexp(dim=1, keepdim=True)
    weight = scores.exp().gather(1, lists)  # [B, L], with W = 1
    # Weights outside the list are summed separately: a difference would cancel digits.
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
    """A mixture of random, noisy pointwise and popular Plackett–Luce policies, then a shuffle.

    The propensity is exact given what the policy saw (the candidates, ``candidate_score`` and
    popularity): P(l) = sum over m of share_m · [(1 - shuffle) · PL_m(l)
    + shuffle / L! · PL_m(items of l in any order)].

    Args:
        config: shares of the mixture, temperature and shuffle.
        name: written to the ``policy`` column.
    """

    def __init__(self, config: LoggingConfig, name: str = "logging") -> None:
        self.config = config
        self.name = name

    def _members(self, world: PlantedWorld, drawn: DrawnRequests) -> list[tuple[float, Tensor]]:
        score, popularity_score = drawn.scores, world.popularity_score[drawn.items]
        members = [
            (self.config.random, torch.zeros_like(score)),
            (self.config.pointwise, score / self.config.temperature),
            (self.config.popular, popularity_score / self.config.temperature),
        ]
        return [member for member in members if member[0] > 0.0]

    def log_prob(self, world: PlantedWorld, drawn: DrawnRequests, lists: Tensor) -> Tensor:
        """Log-probability [B] of lists [B, L].

        Args:
            world: the world of the requests.
            drawn: B requests.
            lists: [B, L] positions.
        """
        shuffle = self.config.shuffle
        terms = []
        for share, scores in self._members(world, drawn):
            if shuffle < 1.0:
                unshuffled = math.log(share) + math.log1p(-shuffle)
                terms.append(unshuffled + list_log_prob(scores, lists))
            if shuffle > 0.0:
                shuffled = math.log(share) + math.log(shuffle) - math.lgamma(lists.shape[1] + 1)
                terms.append(shuffled + set_log_prob(scores, lists))
        return torch.stack(terms).logsumexp(dim=0)

    def slot_propensity(
        self, world: PlantedWorld, drawn: DrawnRequests, lists: Tensor
    ) -> Tensor | None:
        """P(item | items before it) [B, L] of lists [B, L]; None where lists are shuffled.

        The probability of a prefix under a mixture is the mixture of the prefix probabilities.
        After a shuffle it would be a sum over all sets that contain the prefix, which is too slow.

        Args:
            world: the world of the requests.
            drawn: B requests.
            lists: [B, L] positions.
        """
        if self.config.shuffle > 0.0:
            return None
        members = self._members(world, drawn)
        prefixes = []
        for stop in range(1, lists.shape[1] + 1):
            terms = [math.log(s) + list_log_prob(x, lists[:, :stop]) for s, x in members]
            prefixes.append(torch.stack(terms).logsumexp(dim=0))
        steps = torch.stack(prefixes, dim=1)
        return steps.diff(dim=1, prepend=torch.zeros_like(steps[:, :1])).exp()

    def __call__(
        self, world: PlantedWorld, drawn: DrawnRequests, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Draw one list per request: lists [B, L] and P(list) [B]; see `BehaviourPolicy`."""
        members = self._members(world, drawn)
        b, slots = len(drawn.items), world.config.slots
        shares = torch.tensor([share for share, _ in members], dtype=torch.float64)
        member = torch.multinomial(shares, b, replacement=True, generator=generator)
        scores = torch.stack([scores for _, scores in members])[member, torch.arange(b)]
        lists = gumbel_top_k(scores, slots, generator)
        order = torch.rand(b, slots, generator=generator).argsort(dim=1)
        shuffled = torch.rand(b, generator=generator) < self.config.shuffle
        lists = torch.where(shuffled[:, None], lists.gather(1, order), lists)
        return lists, self.log_prob(world, drawn, lists).exp()
