"""RankMixer: token mixing without attention (Zhu et al., 2025, arXiv 2507.15551)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.nn import at_least_single, zeroed
from goalrank.rankers.base import Scorer
from goalrank.rankers.config import check_divides
from goalrank.rankers.initial_order import pointwise_loss
from goalrank.requests import Batch, InputSpec


class RankMixer(Scorer):
    """A scorer of candidates as T tokens, with layers of token mixing and per-token networks.

    A layer splits every token into T heads, gives token h the h-th head of all tokens (a
    transposition without weights), adds and normalises. Then each token has its own two-layer
    network, followed by addition and normalisation. The score is one output of the mean over
    tokens, trained by binary cross-entropy. It is pointwise: candidates do not interact.

    Differences to the paper: the feature groups are the candidate's item embedding, the candidate
    with user, history and its numbers, and the user's context. Together they are cut into T equal
    parts, and each part is projected to a token. The sparse mixture-of-experts variant is left out.

    Args:
        spec: shapes of the batches.
        sizes: sizes of the network.
        tokens: T, must divide D; 0 is `sizes.heads`.
        mixing: False leaves token mixing out (for ablation).
        ratio: hidden width of the per-token networks over D.

    Raises:
        ConfigError: T does not divide D.
    """

    has_graph = True

    def __init__(
        self,
        spec: InputSpec,
        sizes: EncoderSizes,
        *,
        tokens: int = 0,
        mixing: bool = True,
        ratio: int = 4,
    ) -> None:
        super().__init__()
        d = sizes.width
        self.tokens = tokens or sizes.heads
        check_divides(self.tokens, d, "tokens", "tokens")
        self.encoder = RequestEncoder(spec, replace(sizes, layers=0))
        width = -(-3 * d // self.tokens)
        self.pad = width * self.tokens - 3 * d
        self.tokenise = _PerToken(self.tokens, width, d)
        self.layers = nn.ModuleList(
            [_Layer(self.tokens, d, ratio, sizes.dropout, mixing) for _ in range(sizes.layers)]
        )
        self.norm = nn.LayerNorm(d)
        self.wide = Wide(spec, probabilities=True)
        self.head = zeroed(nn.Linear(d, 1))

    def scores(self, batch: Batch) -> Tensor:
        """Score the candidates: [B, N]."""
        encoded = self.encoder(batch)
        context = encoded.context[:, None, :].expand_as(encoded.candidates)
        groups = torch.cat([encoded.items, encoded.candidates, context], -1)
        groups = F.pad(groups, (0, self.pad))
        x = self.tokenise(groups.unflatten(-1, (self.tokens, -1)))  # [B, N, T, D]
        for layer in self.layers:
            x = layer(x)
        scores = at_least_single(self.head(self.norm(x.mean(-2))))
        scores = scores + self.wide(batch, encoded.plain)
        out: Tensor = scores.squeeze(-1)
        return out

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Binary cross-entropy on candidates with known feedback, a scalar."""
        return pointwise_loss(self.scores(batch), batch)


class _PerToken(nn.Module):
    """A separate linear map for each token, [..., T, I] → [..., T, O]."""

    def __init__(self, tokens: int, inner: int, outer: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(tokens, inner, outer) * inner**-0.5)
        self.bias = nn.Parameter(torch.zeros(tokens, outer))

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., T, I] to [..., T, O]."""
        lead = x.shape[:-2]
        flat = x.reshape(-1, *x.shape[-2:]).transpose(0, 1)  # [T, M, I]
        out = torch.baddbmm(self.bias[:, None, :], flat, self.weight)
        return out.transpose(0, 1).reshape(*lead, *out.shape[::2])


class _Layer(nn.Module):
    """Token mixing and per-token networks, each with a residual and a norm."""

    def __init__(self, tokens: int, width: int, ratio: int, drop: float, mixing: bool) -> None:
        super().__init__()
        self.tokens = tokens
        self.mixing = mixing
        self.drop = drop
        self.norm1 = nn.LayerNorm(width)
        self.up = _PerToken(tokens, width, ratio * width)
        self.down = _PerToken(tokens, ratio * width, width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., T, D] to [..., T, D]."""
        if self.mixing:
            heads = x.unflatten(-1, (self.tokens, -1))  # [..., T, T, D/T]
            x = self.norm1(x + heads.transpose(-3, -2).flatten(-2))
        hidden = F.gelu(self.up(x), approximate="tanh")
        out: Tensor = self.norm2(x + F.dropout(self.down(hidden), self.drop, self.training))
        return out
