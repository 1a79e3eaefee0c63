"""Scaled dot-product attention by whichever way is fast for its sizes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Keys below which PyTorch's fused kernel is slow on CPUs: it works on vectors of keys, and
# computes the remainder of a division by the vector's length element by element.
_SHORT = 32


def attention_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Make a mask into what attention adds to its logits: once, instead of in each layer.

    Args:
        mask: [B, M] True for attended entries.
        dtype: of the logits.

    Returns:
        [B, M]: 0 where attended, the least number elsewhere: its weight is 0, and a row that attends
        to nothing gets the mean of all instead of NaN.
    """
    return mask.to(dtype).log().clamp_min(torch.finfo(dtype).min)


def dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool = False
) -> Tensor:
    """Compute softmax(q kᵀ / √D) v for each head. Source: Vaswani et al., 2017 (arXiv 1706.03762).

    Args:
        q: [B, heads, N, D] queries.
        k: [B, heads, M, D] keys.
        v: [B, heads, M, D] values.
        mask: [B, M] True for attended entries, at least one per row, or `attention_bias` of it;
            None attends to all.
        causal: query i attends to keys 0…i (needs N = M and no mask).

    Returns:
        [B, N, heads · D].
    """
    if _is_short(k):
        out = _short(q, k, v, mask, causal)
    else:
        bias = None if mask is None else mask[:, None, None, :]  # len() would fix it in a graph
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal)
    b, heads, n, d = out.shape
    return out.transpose(1, 2).reshape(b, n, heads * d)


def _is_short(k: Tensor) -> bool:
    # A traced graph must not depend on the sizes of its example.
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    return k.shape[2] < _SHORT and k.device.type == "cpu" and k.dtype == torch.float32


def _short(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Attention with logits [B · heads, M, N]: the softmax over few keys runs along queries."""
    b, heads, n, d = q.shape
    queries, keys, values = (x.reshape(b * heads, -1, d) for x in (q, k, v))
    bias = _bias(keys, n, heads, mask, causal)
    logits = torch.baddbmm(bias, keys, queries.transpose(1, 2), alpha=d**-0.5)
    weights = logits.softmax(1).transpose(1, 2)
    return torch.bmm(weights, values).view(b, heads, n, d)


def _bias(keys: Tensor, n: int, heads: int, mask: Tensor | None, causal: bool) -> Tensor:
    """What is added to the logits of keys [B · heads, M, D]: broadcasts to [B · heads, M, N]."""
    m = keys.shape[1]
    if mask is not None:
        bias = attention_bias(mask, keys.dtype) if mask.dtype == torch.bool else mask
        return bias.unsqueeze(1).expand(-1, heads, -1).reshape(len(keys), m, 1)
    if causal:
        return keys.new_full((m, n), -torch.inf).tril(-1)
    return keys.new_zeros(())
