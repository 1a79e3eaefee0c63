"""PRM: personalised re-ranking with a transformer (Pei et al., 2019, arXiv 1904.06813)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.nn import at_least_single, softmax_cross_entropy, zeroed
from goalrank.rankers.base import Scorer
from goalrank.requests import Batch, InputSpec

_MAX_POSITIONS = 256


class PRM(Scorer):
    """A transformer over [x_i; personal vector] + position in the initial list; softmax scores.

    The initial list is the retriever's order; where requests have no retriever score there is no
    initial order and positions are left out. The personal vector is the encoder's user context and
    history, instead of the paper's pre-trained click model. The network's output is added to linear
    scores of the plain features.

    Args:
        spec: shapes of the batches.
        sizes: sizes of the network.
    """

    has_graph = True

    def __init__(self, spec: InputSpec, sizes: EncoderSizes) -> None:
        super().__init__()
        self.encoder = RequestEncoder(spec, sizes)
        self.positions = nn.Embedding(_MAX_POSITIONS, sizes.width) if spec.has_score else None
        if self.positions is not None:
            nn.init.normal_(self.positions.weight, std=0.02)
        self.wide = Wide(spec)
        self.head = zeroed(nn.Linear(sizes.width, 1))

    def scores(self, batch: Batch) -> Tensor:
        """Score the candidates: [B, N]."""
        extra = None
        if self.positions is not None:
            rank = initial_rank(batch).clamp_max(_MAX_POSITIONS - 1)
            extra = self.positions(rank)
        encoded = self.encoder(batch, extra)
        scores = at_least_single(self.head(encoded.candidates)) + self.wide(batch, encoded.plain)
        out: Tensor = scores.squeeze(-1)
        return out

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Softmax cross-entropy on candidates with known feedback, a scalar."""
        known = batch.observed & batch.candidate_mask
        return softmax_cross_entropy(self.scores(batch), batch.relevance, known)


def initial_rank(batch: Batch) -> Tensor:
    """Rank [B, N] of each candidate in the retriever's order, 0 for the best; ties share a rank.

    Args:
        batch: B requests.
    """
    scores = batch.candidate_score.masked_fill(~batch.candidate_mask, -torch.inf)
    return (scores[:, None, :] > scores[:, :, None]).sum(-1)
