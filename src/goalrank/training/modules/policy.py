"""The base of tasks that fit a policy against a frozen reward."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from goalrank.evaluation import known_only
from goalrank.rankers import Ranker
from goalrank.requests import Batch
from goalrank.rewards import Reward
from goalrank.training.config import LoopConfig
from goalrank.training.distributed.data_parallel import SharedBatch
from goalrank.training.modules.supervised import list_ndcg
from goalrank.training.modules.task import Task

R = TypeVar("R", bound=Ranker)


class PolicyTask(Task[R]):
    """A policy fitted against a frozen reward; validated by its lists' reward.

    Args:
        model: the policy.
        loop: steps, batch size and learning rate.
        seed: of every random draw.
        reward: is frozen here.
        slots: L.
    """

    def __init__(
        self, model: R, loop: LoopConfig, seed: int, *, reward: Reward, slots: int
    ) -> None:
        super().__init__(model, loop, seed)
        # Kept out of the module tree: a frozen reward is neither optimised nor checkpointed.
        self._reward = (reward.eval().requires_grad_(False),)
        self.slots = slots

    @property
    def reward(self) -> Reward:
        """The frozen reward."""
        return self._reward[0]

    def transfer_batch_to_device(self, batch: SharedBatch, device: Any, index: int) -> Batch:
        """Move a batch, and the reward, to the device."""
        self.reward.to(device)
        return super().transfer_batch_to_device(batch, device, index)

    def validate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Reward and NDCG [B] of the best lists; `score` is the reward."""
        quality = self.list_quality(batch)
        return {"score": quality["reward"], "ndcg": quality["ndcg"]}

    def list_quality(self, batch: Batch) -> dict[str, Tensor]:
        """Compute reward and ndcg [B] of the policy's best lists."""
        lists = self.model.rank(batch, self.slots)
        known = known_only(batch)
        # Where every candidate's relevance is known, the lists are the same.
        all_known = torch.equal(known.candidate_mask, batch.candidate_mask)
        among_known = lists if all_known else self.model.rank(known, self.slots)
        return {
            "reward": self.reward(batch, lists.unsqueeze(1)).squeeze(1),
            "ndcg": list_ndcg(known, among_known),
        }
