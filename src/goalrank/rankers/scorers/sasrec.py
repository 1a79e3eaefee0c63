"""SASRec: self-attention over the history (Kang and McAuley, 2018, arXiv 1808.09781)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.nn import Block, at_least_single, zeroed
from goalrank.rankers.base import Scorer
from goalrank.rankers.config import check_divides
from goalrank.rankers.history_vectors import HistoryVectors
from goalrank.rankers.initial_order import pointwise_loss
from goalrank.requests import Batch, InputSpec

_MAX_POSITIONS = 256


class SASRec(Scorer):
    """A scorer by the product of the item and the last state of a causal transformer over the history.

    Each event attends to itself and to earlier events, through `sizes.layers` blocks with learned
    positions counted from the newest event; the state at the newest event is the user. The item
    embedding of events and candidates is shared, as in the paper. Without a history the state is a
    learned vector.

    The paper's settings: 2 blocks (`sizes.layers`), 1 head, 50 dimensions (`sizes.width`), the
    latest 50 or 200 events (all that a request holds), dropout 0.2 or 0.5 (`sizes.dropout`), binary
    cross-entropy.

    Differences to the paper: events have feedback, age and gap beside their position. A linear map of
    the encoded candidate is added, so that the inputs are those of the other rankers; the blocks
    normalise first. The cross-entropy is over the candidates with known feedback, at the last state;
    the paper's is over the next event and one random item, at every state.

    Args:
        spec: shapes of the batches.
        sizes: sizes of the network.
        attention_heads: heads of the blocks; must divide the width.
        sequence: False leaves the transformer out (for ablation).

    Raises:
        ConfigError: `attention_heads` does not divide the width.
    """

    def __init__(
        self,
        spec: InputSpec,
        sizes: EncoderSizes,
        *,
        attention_heads: int = 1,
        sequence: bool = True,
    ) -> None:
        super().__init__()
        d = sizes.width
        self.sequence = sequence
        self.encoder = RequestEncoder(spec, replace(sizes, layers=0))
        if sequence:
            check_divides(attention_heads, d, "attention heads", "attention_heads")
            self.history = HistoryVectors(d)
            self.start = nn.Parameter(torch.randn(1, 1, d) * 0.02)
            self.positions = nn.Embedding(_MAX_POSITIONS, d)
            nn.init.normal_(self.positions.weight, std=0.02)
            self.blocks = nn.ModuleList(
                [Block(d, attention_heads, sizes.dropout) for _ in range(max(sizes.layers, 1))]
            )
            self.norm = nn.LayerNorm(d)
            self.to_item = zeroed(nn.Linear(d, d))
        self.wide = Wide(spec, probabilities=True)
        self.head = zeroed(nn.Linear(d, 1))

    def scores(self, batch: Batch) -> Tensor:
        """Score the candidates: [B, N]."""
        encoded = self.encoder(batch)
        scores = at_least_single(self.head(encoded.candidates)) + self.wide(batch, encoded.plain)
        if self.sequence:
            taste = self.to_item(self._last_state(batch)).unsqueeze(-1)
            scores = scores + at_least_single(encoded.items @ taste)
        out: Tensor = scores.squeeze(-1)
        return out

    def _last_state(self, batch: Batch) -> Tensor:
        """State at the newest event: [B, D]."""
        length = batch.history_mask.sum(-1)
        place = torch.arange(batch.history.shape[1], device=length.device)
        newer = (length[:, None] - 1 - place).clamp(0, _MAX_POSITIONS - 1)
        events = self.history(self.encoder.items, batch) + self.positions(newer)
        # Padding stands last, so no event before it attends to it.
        x = torch.cat([self.start.expand(len(events), -1, -1), events], 1)
        for block in self.blocks:
            x = block(x, causal=True)
        last = length[:, None, None].expand(-1, 1, x.shape[-1])
        out: Tensor = self.norm(x.gather(1, last).squeeze(1))
        return out

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Binary cross-entropy on candidates with known feedback, a scalar."""
        return pointwise_loss(self.scores(batch), batch)
