"""The evaluator without a generator: candidates sorted by what it gives each alone."""

from __future__ import annotations

import torch
from torch import Tensor

from goalrank.nn import at_least_single
from goalrank.rankers.base import Scorer
from goalrank.rankers.best_of import Evaluator
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

    def scores(self, batch: Batch) -> Tensor:
        b, n = batch.candidates.shape
        alone = torch.arange(n, device=batch.candidates.device).view(1, n, 1).expand(b, n, 1)
        return at_least_single(self.evaluator(batch, alone))
