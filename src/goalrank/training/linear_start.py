"""Linear solutions that networks start from; each is solved once per job."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goalrank.encoders import (
    LogitTable,
    PlainFeatures,
    Wide,
    WideWeights,
    logit_table,
    solve_logit,
)
from goalrank.evaluation import known_only
from goalrank.rankers import LinearScores
from goalrank.requests import EncodedRequests, InputSpec
from goalrank.training.distributed.process_group import gather_bytes, is_distributed
from goalrank.training.loop.start_candidate import compare
from goalrank.training.modules.supervised import list_ndcg

PLAIN = "linear"
_BATCH = 256


class LinearStart:
    """Linear solutions of a job by feedback type.

    Where candidates have scores of trees, there are more solutions: by the plain features alone, by
    the trees' scores alone, and by both; with and without the trees that see counts. The one with
    the best ndcg of the target on validation is taken; on a small part, another than the first
    must be better by more than one standard error (see `compare`). A solution without any weight,
    such as by plain features that there are not, is none.

    Args:
        spec: input sizes.
        train: training requests; where each process has a part of them, the first one's are used.
        validation: requests to choose by; with none, the first solution is taken.
        slots: L of ndcg@L.
        seed: of the sample of requests.
    """

    def __init__(
        self,
        spec: InputSpec,
        train: EncodedRequests,
        validation: EncodedRequests | None,
        slots: int,
        seed: int,
    ) -> None:
        self.spec = spec
        self.train = train
        self.validation = validation
        self.slots = slots
        self.seed = seed
        self._solved: dict[tuple[int, bool], WideWeights] = {}
        self._tried: dict[str, WideWeights] = {}  # of the target, by solution

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

    @cached_property
    def chosen(self) -> str:
        """Which solution networks begin as, such as "linear", "trees" or "linear and trees"."""
        held, uses = self.validation, _uses(self.spec)
        if self.train.target < 0 or len(uses) == 1:
            return PLAIN
        table = self._table(self.train.target, False)
        solved = ((name, solve_logit(table, use=use)) for name, use in uses.items())
        some = ((name, solution) for name, solution in solved if solution.has_weights)
        if held is None or not len(held):
            self._tried = dict(islice(some, 1))
            return next(iter(self._tried), PLAIN)
        self._tried = dict(some)
        scores = {name: self._scores(solution) for name, solution in self._tried.items()}
        first = next(iter(scores), PLAIN)
        # Requests without a positive are NaN in all of them.
        best = max(scores, key=lambda name: float(np.nansum(scores[name])), default=first)
        if best == first:
            return first
        found = compare(scores[first], scores[best], held.user, margin=1.0)
        return best if found.kept == "trained" else first

    @property
    def begun(self) -> str | None:
        """What networks began as, where the data decided it; None elsewhere."""
        return self.chosen if self._solved and self.spec.model_scores else None

    def _solution(self, kind: int, all_known: bool) -> WideWeights:
        key = (kind, all_known)
        if key not in self._solved:
            mine = self._solve(kind, all_known)
            self._solved[key] = _first_of(mine) if is_distributed() else mine
        return self._solved[key]

    def _solve(self, kind: int, all_known: bool) -> WideWeights:
        name = self.chosen
        if (kind, all_known) == (self.train.target, False) and name in self._tried:
            return self._tried[name]
        return solve_logit(self._table(kind, all_known), use=_uses(self.spec)[name])

    def _table(self, kind: int, all_known: bool) -> LogitTable:
        return logit_table(self.spec, self.train, kind, all_known=all_known, seed=self.seed)

    def _scores(self, solution: WideWeights) -> NDArray[np.float64]:
        """Ndcg@L of each validation request; NaN where it has no positive."""
        linear = LinearScores(self.spec).eval()
        linear.wide.start_from([solution])
        batches = () if self.validation is None else self.validation.batches(_BATCH)
        known = [known_only(batch) for batch in batches]
        each = [list_ndcg(batch, linear.rank(batch, self.slots)) for batch in known]
        return torch.cat(each).double().numpy()


def _uses(spec: InputSpec) -> dict[str, Tensor]:
    """Which plain features each solution may use."""
    features = PlainFeatures(spec)
    made = features.is_model_score
    if not made.any():
        return {PLAIN: ~made}
    every = torch.ones_like(made)
    if spec.model_scores == 1:
        return {PLAIN: ~made, "trees": made, "linear and trees": every}
    first = spec.candidate_features - spec.model_scores
    plain = torch.arange(len(made)) % features.numbers == first  # the score of trees without counts
    return {
        PLAIN: ~made, "trees": plain, "linear and trees": ~made | plain,
        "trees with counts": made, "linear and trees with counts": every,
    }  # fmt: skip


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
