"""Policies over a pool of lists: propose many, value each, show one."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from goalrank.nn import gumbel, request_salt
from goalrank.rankers.base import Ranker
from goalrank.requests import Batch


class Pool(NamedTuple):
    """Proposed lists and their rewards.

    Attributes:
        lists: [B, P, L] positions.
        rewards: [B, P].
    """

    lists: Tensor
    rewards: Tensor


class PoolPolicy(Ranker):
    """A policy over a pool of lists, which is a function of the request.

    Its best list is the one with the highest reward. As a policy it draws from the pool with
    probability ∝ exp(reward / temperature), so that log-probabilities are exact; lists outside the
    pool have probability 0.
    """

    any_list = False

    @abstractmethod
    def pool(self, batch: Batch, slots: int) -> Pool:
        """Propose lists for a batch, with duplicates, and value them.

        Args:
            batch: B requests.
            slots: L.
        """

    def pool_size(self, batch: Batch, slots: int) -> int:
        """Number of lists in the pool of a request, duplicates included."""
        with torch.inference_mode():
            return self.pool(batch, slots).lists.shape[1]

    def encode(self, batch: Batch) -> dict[int, Pool]:
        """Empty cache of pools by list length; a pool is made on first use."""
        return {}

    def _pool(self, state: Any, batch: Batch, slots: int) -> Pool:
        if slots not in state:
            state[slots] = self.pool(batch, slots)
        out: Pool = state[slots]
        return out

    def best(self, state: Any, batch: Batch, slots: int) -> Tensor:
        """The list of the pool with the highest reward: [B, L]."""
        pool = self._pool(state, batch, slots)
        return _pick(pool.lists, pool.rewards.argmax(-1, keepdim=True)).squeeze(1)

    def draw(
        self,
        state: Any,
        batch: Batch,
        lists: int,
        slots: int,
        rng: torch.Generator,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw lists [B, G, L] from the pool."""
        pool = self._pool(state, batch, slots)
        number = torch.arange(pool.rewards.shape[1], device=batch.key.device)
        number = number.expand_as(pool.rewards)
        noise = gumbel(request_salt(batch.key, rng), number, lists)
        at = (self._unique_scores(pool, temperature)[:, None, :] + noise).argmax(-1)
        return _pick(pool.lists, at)

    def list_log_prob(
        self, state: Any, batch: Batch, lists: Tensor, temperature: float = 1.0
    ) -> Tensor:
        """Exact log-probabilities [B, G] of lists [B, G, L]; -inf outside the pool."""
        pool = self._pool(state, batch, lists.shape[-1])
        log_p = self._unique_scores(pool, temperature).log_softmax(-1)  # [B, P]
        same = (lists[:, :, None, :] == pool.lists[:, None, :, :]).all(-1)  # [B, G, P]
        found = torch.where(same, log_p[:, None, :], -torch.inf)
        return found.logsumexp(-1)

    def _unique_scores(self, pool: Pool, temperature: float) -> Tensor:
        """Rewards / temperature, with -inf for repeats of a list."""
        same = (pool.lists[:, :, None, :] == pool.lists[:, None, :, :]).all(-1)
        repeat = same.tril(-1).any(-1)
        return (pool.rewards / temperature).masked_fill(repeat, -torch.inf)


def _pick(lists: Tensor, at: Tensor) -> Tensor:
    """lists[b, at[b, m]]: [B, P, L] and [B, M] → [B, M, L]."""
    return lists.gather(1, at.unsqueeze(-1).expand(-1, -1, lists.shape[-1]))
