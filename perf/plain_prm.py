"""PRM written plainly with `torch.nn.TransformerEncoder`, as a reference for measurements.

The paper's network (Pei et al., 2019, arXiv 1904.06813) and nothing else: a linear map of
[item; user; features] plus a vector per position, one transformer, one score per candidate. It
takes neither history nor side tables, so it does less work than ours on the same batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from goalrank.requests import Batch, InputSpec


class PlainPRM(nn.Module):
    """A transformer over the candidates in the order in which they are given.

    Args:
        spec: shapes of the batches.
        width: D.
        layers: of the transformer; its feed-forward network is 4D wide.
        heads: of the attention.
        dropout: probability of dropout in training.
        positions: most candidates.
    """

    def __init__(
        self,
        spec: InputSpec,
        width: int,
        layers: int,
        heads: int,
        dropout: float = 0.1,
        positions: int = 256,
    ) -> None:
        super().__init__()
        self.items = nn.Embedding(spec.item_ids, width, padding_idx=0)
        self.users = nn.Embedding(spec.user_ids, width, padding_idx=0)
        self.positions = nn.Embedding(positions, width)
        self.enter = nn.Linear(2 * width + spec.candidate_features + 1, width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, batch_first=True)
        # Nested tensors are the default and slower at batch 1.
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 1)

    def forward(self, batch: Batch) -> Tensor:
        """Score the candidates: [B, N], -inf where padded."""
        n = batch.candidates.shape[1]
        user = self.users(batch.user)[:, None, :].expand(-1, n, -1)
        plain = [batch.candidate_features, batch.candidate_score[..., None]]
        x = self.enter(torch.cat([self.items(batch.candidates), user, *plain], -1))
        x = x + self.positions.weight[:n]
        x = self.encoder(x, src_key_padding_mask=~batch.candidate_mask)
        scores: Tensor = self.head(x).squeeze(-1)
        return scores.masked_fill(~batch.candidate_mask, -torch.inf)

    def loss(self, batch: Batch) -> Tensor:
        """Softmax cross-entropy with the relevance, eq. 11; mean over the requests."""
        log_p = self.forward(batch).log_softmax(-1).masked_fill(~batch.candidate_mask, 0.0)
        target = batch.relevance / batch.relevance.sum(-1, keepdim=True).clamp_min(1e-12)
        return -(target * log_p).sum(-1).mean()
