"""DLCM: deep listwise context model (Ai et al., 2018, arXiv 1804.05936)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.nn import at_least_single, divisor, take_rows, zeroed
from goalrank.rankers.base import Scorer
from goalrank.rankers.initial_order import initial_order, known_candidates, pointwise_loss
from goalrank.requests import Batch, InputSpec


class DLCM(Scorer):
    """A scorer that reads the initial list with a GRU and compares candidates with its last state.

    score_i = v · (h_i ⊙ tanh(W z + b)), h_i the GRU's output at candidate i and z its last state
    (the paper's local ranking function with its hidden units summed by one vector v). The list is
    read from its last position to its first, so that the top results weigh most in z. Trained by
    the attention rank loss.

    Differences to the paper: candidates enter as encodings with user and history (layers 0)
    instead of plain features; the GRU has `sizes.layers` layers. Where requests have no retriever
    score there is no initial list; then a first score of the candidates, trained jointly by binary
    cross-entropy, gives the order.

    Args:
        spec: shapes of the batches.
        sizes: sizes of the network.
    """

    def __init__(self, spec: InputSpec, sizes: EncoderSizes) -> None:
        super().__init__()
        d = sizes.width
        depth = max(sizes.layers, 1)
        self.encoder = RequestEncoder(spec, replace(sizes, layers=0))
        self.wide = Wide(spec)
        self.first = None if spec.has_score else zeroed(nn.Linear(d, 1))
        self.gru = nn.GRU(
            d, d, depth, batch_first=True, dropout=sizes.dropout if depth > 1 else 0.0
        )
        self.state = nn.Linear(d, d)
        self.head = zeroed(nn.Linear(d, 1, bias=False))

    def scores(self, batch: Batch) -> Tensor:
        """Score the candidates: [B, N]."""
        return self._scores_and_first(batch)[0]

    def _scores_and_first(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Scores [B, N], and the first scores [B, N]; None where the retriever orders."""
        encoded = self.encoder(batch)
        x = encoded.candidates
        wide = self.wide(batch, encoded.plain).squeeze(-1)
        first = None
        if self.first is not None:  # it has its own loss, which the linear part does not serve
            first = at_least_single(self.first(x).squeeze(-1)) + wide.detach()
        order = initial_order(batch, batch.candidate_score if first is None else first)
        length = batch.candidate_mask.sum(-1)
        # Last position first: position p is read at step length - 1 - p; padding comes after.
        steps = torch.arange(order.shape[1], device=order.device)
        at = length[:, None] - 1 - steps
        at = torch.where(at >= 0, at, steps)
        read = order.gather(1, at)
        outputs, _ = self.gru(take_rows(x, read))
        last = take_rows(outputs, (length - 1).clamp_min(0)[:, None])  # [B, 1, D]
        hidden = take_rows(outputs, read.argsort(-1))  # back to the order of the candidates
        scores = at_least_single(self.head(hidden * torch.tanh(self.state(last))).squeeze(-1))
        return scores + wide, first

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Attention rank loss, and the loss of the first scores where there are any."""
        scores, first = self._scores_and_first(batch)
        loss = attention_rank(scores, batch.relevance, known_candidates(batch))
        return loss if first is None else loss + pointwise_loss(first, batch)


def attention_rank(scores: Tensor, relevance: Tensor, mask: Tensor) -> Tensor:
    """Attention rank loss: −Σ a_y log a_s + (1 − a_y) log(1 − a_s).

    a_s is the softmax of the scores, a_y that of the labels over the positives (others get 0).
    Source: DLCM (arXiv 1804.05936).

    Args:
        scores: [B, N] logits.
        relevance: [B, N] labels.
        mask: [B, N] True for candidates that take part.

    Returns:
        Scalar mean over the requests with a positive; 0 if there is none.
    """
    log_a = scores.masked_fill(~mask, -torch.inf).log_softmax(-1)
    log_a = log_a.masked_fill(~mask, -1e4).clamp_max(-1e-6)
    positive = mask & (relevance > 0)
    weight = relevance.masked_fill(~positive, -torch.inf).softmax(-1)
    weight = torch.where(positive, weight, torch.zeros_like(weight))  # NaN where no positive
    log_rest = torch.log(-torch.expm1(log_a))
    each = -(weight * log_a + (1 - weight) * log_rest * mask).masked_fill(~mask, 0.0).sum(-1)
    has = positive.any(-1)
    return torch.where(has, each, torch.zeros_like(each)).sum() / divisor(has.sum())
