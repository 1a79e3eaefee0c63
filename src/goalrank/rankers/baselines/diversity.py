"""Diversity rules: MMR and DPP over any scorer's relevance. They learn nothing of their own."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from goalrank.rankers.base import Ranker
from goalrank.rankers.baselines.heuristics import RetrieverOrder
from goalrank.rankers.similarity import candidate_likeness, standardised
from goalrank.rankers.step_policy import StepPolicy
from goalrank.requests import Batch


class RuleState(NamedTuple):
    """A request for a diversity rule.

    Attributes:
        relevance: [B, N] -inf where padded.
        likeness: [B, N, N].
    """

    relevance: Tensor
    likeness: Tensor


class _Rule(StepPolicy):
    """Relevance from a scorer, likeness from item features or given vectors.

    Args:
        base: a scorer of the relevance, standardised within a request; the retriever's score by default.
        vectors: [rows of ids, A] for the likeness; item features by default.
    """

    vectors: Tensor | None

    def __init__(self, base: Ranker | None, vectors: Tensor | None) -> None:
        super().__init__()
        self.base = RetrieverOrder() if base is None else base
        self.register_buffer("vectors", vectors)

    def encode(self, batch: Batch) -> RuleState:
        mask = batch.candidate_mask
        relevance = standardised(self.base.scores(batch), mask)
        likeness = candidate_likeness(batch, self.vectors)
        return RuleState(relevance.masked_fill(~mask, -torch.inf), likeness)

    def loss(self, batch: Batch, slots: int) -> Tensor:
        return self.base.loss(batch, slots)


class MMR(_Rule):
    """Maximal marginal relevance: λ · relevance − (1 − λ) · max_{j placed} likeness, greedily.

    As a policy it draws from the softmax of these values. Source: Carbonell and Goldstein, 1998.

    Args:
        trade: λ; 1 sorts by relevance.
        base, vectors: relevance and likeness, see above.
    """

    def __init__(
        self, base: Ranker | None = None, vectors: Tensor | None = None, *, trade: float = 0.7
    ) -> None:
        super().__init__(base, vectors)
        self.trade = trade

    def begin(self, state: RuleState, lists: int, slots: int) -> Tensor:
        b, n = state.relevance.shape
        return state.likeness.new_zeros(b, lists, n)

    def step_logits(self, state: RuleState, hidden: Tensor, step: int) -> Tensor:
        return self.trade * state.relevance[:, None, :] - (1 - self.trade) * hidden

    def advance(self, state: RuleState, hidden: Tensor, picked: Tensor, step: int) -> Tensor:
        near = _rows(state.likeness, picked)
        return near if step == 0 else torch.maximum(hidden, near)


class _Cholesky(NamedTuple):
    """Greedy determinant maximisation of [B, G] lists.

    Attributes:
        rest: [B, G, N] d², what each candidate would multiply the determinant by.
        columns: [B, G, N, t] the Cholesky rows so far.
    """

    rest: Tensor
    columns: Tensor


class DPP(_Rule):
    """Greedy maximum-a-posteriori list of a determinantal point process.

    Kernel L = diag(q) S diag(q), q = exp(θ · relevance / 2), S the likeness (+ `jitter` on the
    diagonal). A slot takes the candidate with the greatest log of the factor by which it grows the
    determinant: θ · relevance + log d². As a policy it draws from the softmax of that, i.e. with
    probability in proportion to the determinant reached. Source: Chen et al., 2018
    (arXiv 1709.05135), algorithm 1, whose incremental Cholesky step this is; θ there is α/(1-α).

    Args:
        theta: weight of relevance against diversity.
        jitter: added to the diagonal of S; keeps repeats of one item possible at a low value.
        base, vectors: relevance and likeness, see above.
    """

    def __init__(
        self,
        base: Ranker | None = None,
        vectors: Tensor | None = None,
        *,
        theta: float = 1.0,
        jitter: float = 1e-3,
    ) -> None:
        super().__init__(base, vectors)
        self.theta = theta
        self.jitter = jitter

    def begin(self, state: RuleState, lists: int, slots: int) -> _Cholesky:
        b, n = state.relevance.shape
        rest = state.likeness.new_full((b, lists, n), 1.0 + self.jitter)
        return _Cholesky(rest, state.likeness.new_zeros(b, lists, n, 0))

    def step_logits(self, state: RuleState, hidden: _Cholesky, step: int) -> Tensor:
        gain = hidden.rest.clamp_min(self.jitter * 1e-2).log() - math.log1p(self.jitter)
        return self.theta * state.relevance[:, None, :] + gain

    def advance(self, state: RuleState, hidden: _Cholesky, picked: Tensor, step: int) -> _Cholesky:
        at = picked[..., None]
        column = _rows(state.likeness, picked)
        if hidden.columns.shape[-1]:
            mine = hidden.columns.gather(2, at[..., None].expand(-1, -1, 1, step))
            column = column - (hidden.columns * mine).sum(-1)
        root = hidden.rest.gather(2, at).clamp_min(self.jitter * 1e-2).sqrt()
        e = column / root
        return _Cholesky(hidden.rest - e**2, torch.cat([hidden.columns, e[..., None]], -1))


def _rows(likeness: Tensor, picked: Tensor) -> Tensor:
    """likeness[b, picked[b, g]]: [B, N, N] and [B, G] → [B, G, N]."""
    return likeness.gather(1, picked[..., None].expand(-1, -1, likeness.shape[-1]))
