"""DIN: deep interest network (Zhou et al., 2018, arXiv 1706.06978)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.nn import CHUNK_ROWS, Linear, at_least_single, in_chunks, mlp, zeroed
from goalrank.rankers.base import Scorer
from goalrank.rankers.history_vectors import HistoryVectors
from goalrank.rankers.initial_order import pointwise_loss
from goalrank.requests import Batch, InputSpec


class DIN(Scorer):
    """A scorer with a vector of interest per candidate: a weighted sum of the history's events.

    The weight of event e for candidate v is a small network of e, v and e ⊙ v, the activation unit.
    Weights are not normalised by a softmax, so that many events of one interest count more than a
    single one. A network of the interest and the encoded candidate gives the score, trained by
    binary cross-entropy.

    The paper's settings: 36 hidden units in the activation unit (`unit`), PReLU, a network of 200
    and 80 hidden units (here 2 D per layer, `sizes.layers` layers, as in the other rankers), SGD.

    Differences to the paper: PReLU is the paper's first choice; its Dice normalises by the
    statistics of a batch, which would tie a request's scores to its neighbours. Mini-batch aware
    regularisation of ids is id dropout here. The encoded candidate, which attends to the history
    too, is an input, so that rankers have the same inputs.

    Args:
        spec: shapes of the batches.
        sizes: sizes of the network.
        unit: hidden units of the activation unit, at least 1.
        activation: False gives every event the weight 1, sum pooling (for ablation).
    """

    has_graph = True

    def __init__(
        self, spec: InputSpec, sizes: EncoderSizes, *, unit: int = 36, activation: bool = True
    ) -> None:
        super().__init__()
        d = sizes.width
        self.chunk_rows = CHUNK_ROWS // 8  # of candidates, each of which has H × unit numbers
        self.encoder = RequestEncoder(spec, replace(sizes, layers=0))
        self.history = HistoryVectors(d)
        self.unit = _ActivationUnit(d, unit) if activation else None
        hidden = [2 * d] * max(sizes.layers, 1)
        self.wide = Wide(spec, probabilities=True)
        self.head = zeroed(mlp(2 * d, *hidden, 1, dropout=sizes.dropout))

    def scores(self, batch: Batch) -> Tensor:
        """Score the candidates: [B, N]."""
        encoded = self.encoder(batch)
        x = torch.cat([encoded.candidates, self._interest(encoded.items, batch)], -1)
        scores = at_least_single(self.head(x)) + self.wide(batch, encoded.plain)
        out: Tensor = scores.squeeze(-1)
        return out

    def _interest(self, items: Tensor, batch: Batch) -> Tensor:
        """Weighted sum of the events for each candidate: [B, N, D]."""
        events: Tensor = self.history(self.encoder.items, batch)  # 0 where padded
        unit = self.unit
        if unit is None:
            return events.sum(1, keepdim=True).expand_as(items)
        met = self.history.norm(self.encoder.items(batch.items, batch.history))
        own = unit.event(events)

        def attend(candidates: Tensor) -> Tensor:
            weight: Tensor = unit(self.history.norm(candidates), met, own)
            return weight @ events

        return in_chunks(attend, items, rows=self.chunk_rows)

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Binary cross-entropy on candidates with known feedback, a scalar."""
        return pointwise_loss(self.scores(batch), batch)


class _ActivationUnit(nn.Module):
    """Weights of events for candidates: one hidden layer over event, candidate and their product.

    The layer of a concatenation is a sum of three layers; the one of the products is computed
    without them, as (v ⊙ w_k) · e for each hidden unit k.
    """

    def __init__(self, width: int, unit: int) -> None:
        super().__init__()
        self.event = Linear(width, unit)
        self.candidate = Linear(width, unit, bias=False)
        self.product = nn.Parameter(torch.randn(unit, width) * width**-0.5)
        self.activation = nn.PReLU()
        self.out = nn.Linear(unit, 1)

    def forward(self, candidates: Tensor, met: Tensor, own: Tensor) -> Tensor:
        """Weights [B, N, H] of candidates [B, N, D], met items [B, H, D] and their events [B, H, K]."""
        crossed = torch.einsum("bnd,kd,bhd->bnhk", candidates, self.product, met)
        hidden = crossed + own.unsqueeze(1) + self.candidate(candidates).unsqueeze(2)
        out: Tensor = self.out(self.activation(hidden)).squeeze(-1)
        return out
