"""The evaluator without a generator: candidates sorted by what it gives each alone."""

from __future__ import annotations

from torch import Tensor

from goalrank.nn import at_least_single
from goalrank.rankers.base import Scorer
from goalrank.rankers.composite.best_of import Evaluator
from goalrank.requests import Batch


class EvaluatorSort(Scorer):
    """How good a list the reward model itself makes, item by item.

    A generator taught by the reward should do no worse where items do not act on one another, and
    better where they do: a sort cannot see that.

    Args:
        evaluator: the reward, asked for lists of one.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        super().__init__()
        self.evaluator = evaluator

    @property
    def trainable(self) -> bool:
        """The evaluator has learned elsewhere."""
        return False

    def scores(self, batch: Batch) -> Tensor:
        return at_least_single(self.evaluator(batch, batch.lists_of_one))
