"""A two-tower ranker: the user's context and the item, each a vector; their product is the score."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from goalrank.encoders import EncoderSizes, RequestEncoder
from goalrank.nn import softmax_cross_entropy
from goalrank.rankers import Scorer
from goalrank.requests import Batch, InputSpec


class TwoTower(Scorer):
    """Scores a candidate by the product of the user's vector and the item's.

    A `Scorer` gives scores; that its lists are drawn and have exact probabilities comes from the
    base class. The constructor's `spec` and `sizes` are given by goalrank; `scale`, after the star,
    is an option: `[ranker.options] scale = 2.0`.

    Args:
        spec: sizes of the requests' features.
        sizes: of the encoder.
        scale: of the scores at the start of training; it is learned on.

    Source: two-tower retrieval (Yi et al., RecSys 2019), trained by a softmax over the candidates.
    """

    def __init__(self, spec: InputSpec, sizes: EncoderSizes, *, scale: float = 1.0) -> None:
        super().__init__()
        self.encoder = RequestEncoder(spec, replace(sizes, layers=0))
        self.scale = torch.nn.Parameter(torch.tensor(float(scale)))

    def scores(self, batch: Batch) -> Tensor:
        """Score every candidate: [B, N]."""
        encoded = self.encoder(batch)
        product = torch.einsum("bd,bnd->bn", encoded.context, encoded.items)
        scores: Tensor = self.scale * product / encoded.context.shape[-1] ** 0.5
        return scores

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Softmax cross-entropy over the candidates whose relevance is known."""
        known = batch.observed & batch.candidate_mask
        return softmax_cross_entropy(self.scores(batch), batch.relevance, known)
