"""Linear solutions that networks start from; each is solved once per job."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch

from goalrank.encoders import Wide, WideWeights, fit_conditional_logit
from goalrank.requests import EncodedRequests, InputSpec
from goalrank.training.distributed.process_group import gather_bytes, is_distributed


class LinearStart:
    """Linear solutions of a job by feedback type.

    Args:
        spec: input sizes.
        train: training requests; where each process has a part of them, the first one's are used.
        seed: of the sample of requests.
    """

    def __init__(self, spec: InputSpec, train: EncodedRequests, seed: int) -> None:
        self.spec = spec
        self.train = train
        self.seed = seed
        self._solved: dict[tuple[int, bool], WideWeights] = {}

    def give(self, wide: Wide | None, kinds: Sequence[int], *, all_known: bool = False) -> None:
        """Start a wide path from the solutions.

        Args:
            wide: None where the model has none; nothing is done then.
            kinds: column of the feedback per output of the path; -1 leaves it at zero.
            all_known: whether candidates that were not shown count as without feedback.
        """
        if wide is None or min(kinds, default=-1) < 0:
            return
        wide.start_from([self._solution(kind, all_known) for kind in kinds])

    def _solution(self, kind: int, all_known: bool) -> WideWeights:
        key = (kind, all_known)
        if key not in self._solved:
            mine = fit_conditional_logit(
                self.spec, self.train, kind, all_known=all_known, seed=self.seed
            )
            self._solved[key] = _first_of(mine) if is_distributed() else mine
        return self._solved[key]


def _first_of(mine: WideWeights) -> WideWeights:
    """The solution of the first process."""
    file = io.BytesIO()
    np.savez(
        file,
        weight=mine.weight.numpy(),
        category=mine.category.numpy(),
        level=np.array([mine.slope, mine.intercept]),
    )
    with np.load(io.BytesIO(gather_bytes(file.getvalue())[0]), allow_pickle=False) as first:
        slope, intercept = first["level"].tolist()
        weight, category = (torch.from_numpy(first[name]) for name in ("weight", "category"))
    return WideWeights(weight, category, slope, intercept)
