"""Attention blocks over sets and sequences."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from goalrank.nn.attention import dot_product_attention
from goalrank.nn.chunks import CHUNK_ROWS, in_chunks
from goalrank.nn.dropout import dropout as drop
from goalrank.nn.linear import Linear, linear_gelu


class FeedForward(nn.Module):
    """Two-layer GELU network, D → ratio·D → D.

    Args:
        width: D.
        ratio: hidden width over D.
        dropout: probability of dropout on the output, in training.
    """

    def __init__(self, width: int, ratio: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.up = Linear(width, ratio * width)
        self.down = Linear(ratio * width, width)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., D] to [..., D]."""
        hidden = linear_gelu(x, self.up.weight, self.up.bias)
        return drop(self.down(hidden), self.dropout, self.training)


class Attention(nn.Module):
    """Multi-head attention.

    Args:
        width: D, divisible by heads.
        heads: number of heads.
        dropout: probability of dropout on the output, in training. (Dropout of attention weights
            would rule out PyTorch's fused kernel.)
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = Linear(width, width)
        self.key_value = Linear(width, 2 * width)
        self.out = Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        return x.view(b, n, self.heads, d // self.heads).transpose(1, 2)

    def forward(
        self, x: Tensor, memory: Tensor, mask: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        """Attend from queries to a memory.

        Args:
            x: [B, N, D] queries.
            memory: [B, M, D].
            mask: [B, M] True for attended entries, at least one per row, or `attention_bias` of
                it; None attends to all.
            causal: position i attends to memory 0…i (needs N = M and no mask).

        Returns:
            [B, N, D].
        """
        return self.attend(x, *self.keys_values(memory), mask, causal=causal)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Compute keys and values of a memory.

        Args:
            memory: [B, M, D].

        Returns:
            Keys and values, [B, heads, M, D / heads] each.
        """
        b, m, d = memory.shape
        both = self.key_value(memory).view(b, m, 2, self.heads, d // self.heads)
        k, v = both.permute(2, 0, 3, 1, 4).unbind()
        return k, v

    def attend(
        self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        """Attend from queries to keys and values.

        Args:
            x: [B, N, D] queries.
            k: keys from `keys_values`.
            v: values from `keys_values`.
            mask: as in `forward`.
            causal: as in `forward`.

        Returns:
            [B, N, D].
        """
        attended = dot_product_attention(self._split(self.query(x)), k, v, mask, causal=causal)
        return drop(self.out(attended), self.dropout, self.training)


class Block(nn.Module):
    """Pre-norm transformer block. Source: Xiong et al., 2020 (arXiv 2002.04745).

    Args:
        width: D, divisible by heads.
        heads: number of heads.
        dropout: probability of dropout on both outputs, in training.
        ratio: hidden width of the feed-forward network over D.
    """

    shard_unit = True  # of the strategy fsdp: sharded and gathered as one

    def __init__(self, width: int, heads: int, dropout: float = 0.0, ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, ratio, dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        causal: bool = False,
        rows: int = CHUNK_ROWS,
    ) -> Tensor:
        """Map [B, N, D] to [B, N, D].

        Args:
            x: [B, N, D].
            mask: [B, N] True for real entries, or `attention_bias` of it; None for all.
            causal: position i attends to positions 0…i.
            rows: rows per chunk, see `in_chunks`; a causal block uses no chunks.
        """
        y = self.norm1(x)
        k, v = self.attention.keys_values(y)

        def attend_and_feed_forward(x: Tensor, y: Tensor) -> Tensor:
            x = x + self.attention.attend(y, k, v, mask, causal=causal)
            out: Tensor = x + self.feed_forward(self.norm2(x))
            return out

        function = attend_and_feed_forward
        return function(x, y) if causal else in_chunks(function, x, y, rows=rows)


class InducedBlock(nn.Module):
    """Self-attention through M learned points, at cost N·M instead of N².

    Source: Set Transformer's induced set attention block (Lee et al., 2019, arXiv 1810.00825).

    Args:
        width: D, divisible by heads.
        heads: number of heads.
        points: M.
        dropout: probability of dropout on the outputs, in training.
        ratio: hidden width of the feed-forward network over D.
    """

    shard_unit = True  # of the strategy fsdp: sharded and gathered as one

    def __init__(
        self, width: int, heads: int, points: int, dropout: float = 0.0, ratio: int = 4
    ) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.randn(1, points, width) * 0.02)
        self.norm1 = nn.LayerNorm(width)
        self.gather = Attention(width, heads, dropout)
        self.spread = Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, ratio, dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, rows: int = CHUNK_ROWS) -> Tensor:
        """Map [B, N, D] to [B, N, D].

        Args:
            x: [B, N, D].
            mask: [B, N] True for real entries; None for all.
            rows: rows per chunk, see `in_chunks`.
        """
        y = self.norm1(x)
        points = self.points.expand(x.shape[0], -1, -1)
        points = points + self.gather(points, y, mask)
        k, v = self.spread.keys_values(points)

        def attend_and_feed_forward(x: Tensor, y: Tensor) -> Tensor:
            x = x + self.spread.attend(y, k, v)
            out: Tensor = x + self.feed_forward(self.norm2(x))
            return out

        return in_chunks(attend_and_feed_forward, x, y, rows=rows)


class _MLP(nn.Sequential):
    """Linear layers with GELU and dropout between them."""

    def __init__(self, widths: Sequence[int], dropout: float) -> None:
        # The numbers count the activation and the dropout between two layers, so that weights
        # keep the names they were saved under.
        pairs = enumerate(itertools.pairwise(widths))
        super().__init__(OrderedDict((str(3 * i), Linear(a, b)) for i, (a, b) in pairs))
        self.dropout = dropout

    def forward(self, input: Tensor) -> Tensor:
        """Map [..., first width] to [..., last width]."""
        *hidden, last = cast(list[Linear], list(self))
        for layer in hidden:
            input = linear_gelu(input, layer.weight, layer.bias)
            input = drop(input, self.dropout, self.training)
        out: Tensor = last(input)
        return out


def mlp(*widths: int, dropout: float = 0.0) -> nn.Sequential:
    """Build linear layers with GELU between them, for instance ``mlp(8, 64, 1)``.

    Args:
        *widths: input, hidden and output widths.
        dropout: probability of dropout after each GELU, in training.
    """
    return _MLP(widths, dropout)
