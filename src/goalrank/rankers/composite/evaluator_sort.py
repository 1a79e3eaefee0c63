"""The evaluator without a generator: candidates sorted by their reward alone."""

from __future__ import annotations

from torch import Tensor

from goalrank.nn import at_least_single
from goalrank.rankers.base import Scorer
from goalrank.rankers.composite.best_of import Evaluator
from goalrank.requests import Batch


class EvaluatorSort(Scorer):
    """A sort of the candidates by their reward as lists of one.

    A generator trained on the reward should be no worse where items do not interact, and better
    where they do, because a sort ignores interactions.

    Args:
        evaluator: the reward.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        super().__init__()
        self.evaluator = evaluator

    @property
    def trainable(self) -> bool:
        """False: the evaluator is trained separately."""
        return False

    def scores(self, batch: Batch) -> Tensor:
        """Reward of each candidate as a list of one: [B, N]."""
        return at_least_single(self.evaluator(batch, batch.lists_of_one))
