"""Supervised training: a ranker fitted by its own loss on labels."""

from __future__ import annotations

from torch import Tensor

from goalrank.evaluation import from_lists, known_only, ndcg
from goalrank.rankers import Ranker
from goalrank.requests import Batch
from goalrank.training.config import LoopConfig
from goalrank.training.modules.task import Task


class SupervisedTask(Task[Ranker]):
    """Fits a ranker by its own supervised loss; validated by ndcg on known candidates."""

    def __init__(self, model: Ranker, loop: LoopConfig, seed: int, slots: int) -> None:
        super().__init__(model, loop, seed)
        self.slots = slots

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Compute the ranker's supervised loss of one batch, a scalar."""
        loss = self.model.loss(batch, self.slots)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """NDCG [B] of the best lists over candidates of known relevance."""
        batch = known_only(batch)
        lists = self.model.rank(batch, self.slots)
        return {"score": list_ndcg(batch, lists)}


def list_ndcg(batch: Batch, lists: Tensor) -> Tensor:
    """Compute ndcg@L [B] of emitted lists; NaN where a request has no positive."""
    return ndcg(from_lists(lists, batch.relevance, batch.candidate_mask)).float()
