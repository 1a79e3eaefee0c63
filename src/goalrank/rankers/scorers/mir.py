"""MIR: multi-level interaction reranking with user behaviour history.

Source: Xi et al., SIGIR 2022, arXiv 2204.09370.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.nn import Block, at_least_single, mlp, zeroed
from goalrank.rankers.base import Scorer
from goalrank.rankers.history_vectors import HistoryVectors, run_packed
from goalrank.rankers.initial_order import pointwise_loss
from goalrank.requests import Batch, InputSpec


class MIR(Scorer):
    """A scorer with set-to-list interaction (SLAttention) between candidates and history.

    - Within: self-attention over the candidate set (`sizes.layers` blocks), a bidirectional LSTM
      over the history.
    - Between: affinity A = tanh(X W Hᵀ) ⊙ exp(−θ_u · age), θ_u ≥ 0 learned from the user, age the
      log-hours of the event. A candidate gets softmax(A) H from the history (the similar events)
      and the decayed sums A H and A 1 (their number: repeats add up). In the other direction every
      event distributes its attention over the set, and a candidate gets its share of each event.
    - Score: a network of all of these, trained by binary cross-entropy.

    Differences to the paper: the encoder already lets a candidate attend to the history, so that
    MIR differs from the other rankers by the interaction alone. The paper's feature-level affinity
    works on feature fields; here encodings are one vector, and the affinity has `sizes.heads`
    bilinear forms instead.

    Args:
        spec: shapes of the batches.
        sizes: sizes of the network.
        interaction: False leaves the set-to-list interaction out (for ablation).
    """

    def __init__(self, spec: InputSpec, sizes: EncoderSizes, *, interaction: bool = True) -> None:
        super().__init__()
        d, self.heads = sizes.width, sizes.heads
        self.interaction = interaction
        self.encoder = RequestEncoder(spec, replace(sizes, layers=0))
        self.blocks = nn.ModuleList(
            [Block(d, sizes.heads, sizes.dropout) for _ in range(sizes.layers)]
        )
        self.norm = nn.LayerNorm(d)
        width = d
        if interaction:
            width = 4 * d + sizes.heads
            self.history = HistoryVectors(d)
            self.lstm = nn.LSTM(d, d // 2, batch_first=True, bidirectional=True)
            self.query = nn.Linear(d, d, bias=False)
            nn.init.eye_(self.query.weight)  # starts as plain similarity
            self.decay = nn.Linear(d, sizes.heads)
        self.wide = Wide(spec, probabilities=True)
        self.head = zeroed(mlp(width, 2 * d, 1, dropout=sizes.dropout))

    def scores(self, batch: Batch) -> Tensor:
        """Score the candidates: [B, N]."""
        encoded = self.encoder(batch)
        x = encoded.candidates
        for block in self.blocks:
            x = block(x, batch.candidate_mask)
        x = self.norm(x)
        if self.interaction:
            x = torch.cat([x, *self._interact(encoded.items, encoded.context, batch)], -1)
        scores = at_least_single(self.head(x)) + self.wide(batch, encoded.plain)
        out: Tensor = scores.squeeze(-1)
        return out

    def _interact(self, items: Tensor, context: Tensor, batch: Batch) -> list[Tensor]:
        """Features of every candidate from the history: three [B, N, D] and one [B, N, heads]."""
        b, n, d = items.shape
        real = batch.history_mask
        events = self.history(self.encoder.items, batch)
        read, _ = run_packed(self.lstm, events, real.sum(-1))
        read = (events + read) * real.unsqueeze(-1)
        query = self.query(self.history.norm(items)).view(b, n, self.heads, -1)
        query = query.transpose(1, 2)  # [B, R, N, D/R]
        met = self.encoder.items(batch.items, batch.history)
        keys = self.history.norm(met).view(b, -1, self.heads, d // self.heads).transpose(1, 2)
        values = read.view(b, -1, self.heads, d // self.heads).transpose(1, 2)
        rate = F.softplus(self.decay(context))[:, :, None, None]  # [B, R, 1, 1]
        age = batch.history_age[:, None, None, :]
        scale = (d // self.heads) ** -0.5
        affinity = torch.tanh(query @ keys.transpose(-1, -2) * scale)
        affinity = affinity * torch.exp(-rate * age) * real[:, None, None, :]
        some = real.any(-1)[:, None, None, None]
        weight = affinity.masked_fill(~real[:, None, None, :], -torch.inf)
        weight = torch.where(some, weight, 0.0).softmax(-1)
        attended = weight @ values
        # Not normalised: two equal events count twice.
        summed = affinity @ values
        share = affinity.masked_fill(~batch.candidate_mask[:, None, :, None], -torch.inf)
        seen = share.softmax(2) @ values
        vectors = [t.transpose(1, 2).reshape(b, n, d) for t in (attended, summed, seen)]
        return [*vectors, affinity.sum(-1).transpose(1, 2)]

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Binary cross-entropy on candidates with known feedback, a scalar."""
        return pointwise_loss(self.scores(batch), batch)
