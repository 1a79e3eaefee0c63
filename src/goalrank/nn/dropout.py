"""Dropout with few random draws on CPUs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero a share p of the elements and scale the others, like `torch.nn.functional.dropout`.

    On a CPU the mask is made of random bytes, eight per drawn word. This is several times faster
    than one draw per element; p is then rounded to a multiple of 1/256.

    Args:
        x: any shape.
        p: probability in [0, 1) of zeroing an element.
        training: False returns `x` unchanged.
    """
    if not training or p == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p, training)
    limit = max(round(p * 256), 1)
    n = x.numel()
    words = torch.empty((n + 7) // 8, dtype=torch.int64)
    words.random_(-(2**63), None)
    draws = words.view(torch.uint8)[:n].view(x.shape)
    # 1 where a draw is at least the limit: bytes are clamped much faster than compared.
    keep = draws.clamp_(limit - 1, limit).sub_(limit - 1)
    return x * keep.to(x.dtype).mul_(256 / (256 - limit))
