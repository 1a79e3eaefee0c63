"""Generator-evaluator: proposals from one or many rankers, a reward picks one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from goalrank.nn import gumbel, request_salt
from goalrank.rankers.base import Ranker
from goalrank.requests import Batch

Evaluator = nn.Module  # (batch, lists [B, G, L]) → rewards [B, G]; rewards live in their own room


class Pool(NamedTuple):
    """A request's proposals and what the evaluator thinks of them.

    Attributes:
        lists: [B, P, L].
        rewards: [B, P].
    """

    lists: Tensor
    rewards: Tensor


class BestOf(Ranker):
    """Each ranker proposes its best list and sampled ones; the evaluator's favourite is shown.

    The pool of a request is fixed by the request and `seed`. As a policy, BestOf draws from the
    pool with probability ∝ exp(reward / temperature), so that its log-probabilities are exact:
    lists outside the pool have probability 0.

    Args:
        rankers: k generators (k = 1 is plain generator-evaluator).
        evaluator: the reward that picks.
        lists: proposals in all, shared evenly; each ranker's first is its own best list.
        temperature: of the sampled proposals.
        seed: fixes the pools.
    """

    def __init__(
        self,
        rankers: Sequence[Ranker],
        evaluator: Evaluator,
        lists: int = 100,
        temperature: float = 1.0,
        seed: int = 0,
        slots: int = 6,
    ) -> None:
        super().__init__()
        self.rankers = nn.ModuleList(rankers)
        self.evaluator = evaluator
        self.lists = lists
        self.temperature = temperature
        self.seed = seed
        self.slots = slots

    def pool(self, batch: Batch, slots: int) -> Pool:
        """The proposals of a batch, duplicates included."""
        each = max(self.lists // len(self.rankers), 1)
        parts = []
        for k, ranker in enumerate(self.rankers):
            rng = torch.Generator().manual_seed(self.seed + k)
            state = ranker.encode(batch)
            parts.append(ranker.best(state, batch, slots).unsqueeze(1))
            if each > 1:
                parts.append(ranker.draw(state, batch, each - 1, slots, rng, self.temperature))
        lists = torch.cat(parts, 1)
        return Pool(lists, self.evaluator(batch, lists))

    def encode(self, batch: Batch) -> dict[int, Pool]:
        """Pools by list length, filled on first use (a pool belongs to one L)."""
        return {}

    def _pool(self, state: dict[int, Pool], batch: Batch, slots: int) -> Pool:
        if slots not in state:
            state[slots] = self.pool(batch, slots)
        return state[slots]

    def best(self, state: dict[int, Pool], batch: Batch, slots: int) -> Tensor:
        pool = self._pool(state, batch, slots)
        return _pick(pool.lists, pool.rewards.argmax(-1, keepdim=True)).squeeze(1)

    def draw(
        self,
        state: dict[int, Pool],
        batch: Batch,
        lists: int,
        slots: int,
        rng: torch.Generator,
        temperature: float = 1.0,
    ) -> Tensor:
        pool = self._pool(state, batch, slots)
        place = torch.arange(pool.rewards.shape[1], device=batch.key.device).expand_as(pool.rewards)
        noise = gumbel(request_salt(batch.key, rng), place, lists)
        at = (self._unique_scores(pool, temperature)[:, None, :] + noise).argmax(-1)
        return _pick(pool.lists, at)

    def list_log_prob(
        self, state: dict[int, Pool], batch: Batch, lists: Tensor, temperature: float = 1.0
    ) -> Tensor:
        pool = self._pool(state, batch, lists.shape[-1])
        log_p = self._unique_scores(pool, temperature).log_softmax(-1)  # [B, P]
        same = (lists[:, :, None, :] == pool.lists[:, None, :, :]).all(-1)  # [B, G, P]
        found = torch.where(same, log_p[:, None, :], -torch.inf)
        return found.logsumexp(-1)

    def _unique_scores(self, pool: Pool, temperature: float) -> Tensor:
        """Rewards / temperature, with repeats of a list struck out."""
        same = (pool.lists[:, :, None, :] == pool.lists[:, None, :, :]).all(-1)
        repeat = same.tril(-1).any(-1)
        return (pool.rewards / temperature).masked_fill(repeat, -torch.inf)


def _pick(lists: Tensor, at: Tensor) -> Tensor:
    """lists[b, at[b, m]]: [B, P, L] and [B, M] → [B, M, L]."""
    return lists.gather(1, at.unsqueeze(-1).expand(-1, -1, lists.shape[-1]))
