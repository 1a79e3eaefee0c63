"""Baselines that trade relevance against diversity: MMR and DPP over any scorer's relevance."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from goalrank.rankers.base import Ranker
from goalrank.rankers.baselines.heuristics import RetrieverOrder
from goalrank.rankers.similarity import candidate_similarity, standardised
from goalrank.rankers.step_policy import StepPolicy
from goalrank.requests import Batch


class DiversityState(NamedTuple):
    """Encoded request of a diversity baseline.

    Attributes:
        relevance: [B, N], -inf where padded.
        similarity: [B, N, N] similarities of the candidates.
    """

    relevance: Tensor
    similarity: Tensor


class _DiversityBaseline(StepPolicy):
    """A policy over relevance and similarity of the candidates.

    Args:
        base: scorer of the relevance, which is standardised within a request; None uses the
            retriever's score.
        vectors: [id rows, A] vectors for the similarity; None uses item features.
    """

    vectors: Tensor | None

    def __init__(self, base: Ranker | None, vectors: Tensor | None) -> None:
        super().__init__()
        self.base = RetrieverOrder() if base is None else base
        self.register_buffer("vectors", vectors)

    def encode(self, batch: Batch) -> DiversityState:
        """Relevance and similarities of the candidates."""
        mask = batch.candidate_mask
        relevance = standardised(self.base.scores(batch), mask)
        similarity = candidate_similarity(batch, self.vectors)
        return DiversityState(relevance.masked_fill(~mask, -torch.inf), similarity)

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Loss of the scorer of relevance, a scalar."""
        return self.base.loss(batch, slots)


class MMR(_DiversityBaseline):
    """Maximal marginal relevance: λ · relevance − (1 − λ) · max_{j placed} similarity, greedily.

    As a policy it draws from the softmax of these values. Source: Carbonell and Goldstein, 1998.

    Args:
        base: scorer of the relevance; None uses the retriever's score.
        vectors: [id rows, A] vectors for the similarity; None uses item features.
        trade: λ in [0, 1]; 1 sorts by relevance.
    """

    def __init__(
        self, base: Ranker | None = None, vectors: Tensor | None = None, *, trade: float = 0.7
    ) -> None:
        super().__init__(base, vectors)
        self.trade = trade

    def begin(self, state: DiversityState, lists: int, slots: int) -> Tensor:
        """Largest similarity to a placed candidate, before any is placed: [B, G, N] of 0."""
        b, n = state.relevance.shape
        return state.similarity.new_zeros(b, lists, n)

    def step_logits(self, state: DiversityState, hidden: Tensor, step: int) -> Tensor:
        """Relevance minus redundancy of each candidate: [B, G, N]."""
        return self.trade * state.relevance[:, None, :] - (1 - self.trade) * hidden

    def advance(self, state: DiversityState, hidden: Tensor, picked: Tensor, step: int) -> Tensor:
        """Update the largest similarity [B, G, N] by the picked candidates [B, G]."""
        near = _rows(state.similarity, picked)
        return near if step == 0 else torch.maximum(hidden, near)


class _Cholesky(NamedTuple):
    """Cholesky factors of [B, G] partial lists, for greedy determinant maximisation.

    Attributes:
        rest: [B, G, N] d², the factor by which each candidate multiplies the determinant.
        columns: [B, G, N, t] Cholesky rows of the first t slots.
    """

    rest: Tensor
    columns: Tensor


class DPP(_DiversityBaseline):
    """Greedy maximum-a-posteriori list of a determinantal point process.

    Kernel L = diag(q) S diag(q), q = exp(θ · relevance / 2), S the similarity (+ `jitter` on the
    diagonal). A slot takes the candidate that multiplies the determinant by the largest factor, in
    logarithms θ · relevance + log d². As a policy it draws from the softmax of these values, that
    is with probability proportional to the determinant. Source: Chen et al., 2018
    (arXiv 1709.05135), algorithm 1 with its incremental Cholesky step; θ there is α/(1-α).

    Args:
        base: scorer of the relevance; None uses the retriever's score.
        vectors: [id rows, A] vectors for the similarity; None uses item features.
        theta: θ, weight of relevance against diversity.
        jitter: added to the diagonal of S, above 0; repeats of one item stay possible with a low
            value.
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

    def begin(self, state: DiversityState, lists: int, slots: int) -> _Cholesky:
        """Cholesky factors of empty lists."""
        b, n = state.relevance.shape
        rest = state.similarity.new_full((b, lists, n), 1.0 + self.jitter)
        return _Cholesky(rest, state.similarity.new_zeros(b, lists, n, 0))

    def step_logits(self, state: DiversityState, hidden: _Cholesky, step: int) -> Tensor:
        """Log of the factor by which each candidate multiplies the determinant: [B, G, N]."""
        gain = hidden.rest.clamp_min(self.jitter * 1e-2).log() - math.log1p(self.jitter)
        return self.theta * state.relevance[:, None, :] + gain

    def advance(
        self, state: DiversityState, hidden: _Cholesky, picked: Tensor, step: int
    ) -> _Cholesky:
        """Add the picked candidates [B, G] to the Cholesky factors."""
        at = picked[..., None]
        column = _rows(state.similarity, picked)
        if hidden.columns.shape[-1]:
            mine = hidden.columns.gather(2, at[..., None].expand(-1, -1, 1, step))
            column = column - (hidden.columns * mine).sum(-1)
        root = hidden.rest.gather(2, at).clamp_min(self.jitter * 1e-2).sqrt()
        e = column / root
        return _Cholesky(hidden.rest - e**2, torch.cat([hidden.columns, e[..., None]], -1))


def _rows(similarity: Tensor, picked: Tensor) -> Tensor:
    """similarity[b, picked[b, g]]: [B, N, N] and [B, G] → [B, G, N]."""
    return similarity.gather(1, picked[..., None].expand(-1, -1, similarity.shape[-1]))
