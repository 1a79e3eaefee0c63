"""Dropout that is cheap on CPUs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero a share p of the elements and scale the rest, as `torch.nn.functional.dropout`.

    On a CPU the mask is made of random bytes, eight a drawn word, several times cheaper than one
    draw an element; p is then rounded to a multiple of 1/256.
    """
    if not training or p == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p, training)
    limit = max(round(p * 256), 1)
    n = x.numel()
    words = torch.empty((n + 7) // 8, dtype=torch.int64)
    words.random_(-(2**63), None)
    keep = words.view(torch.uint8)[:n].view(x.shape) >= limit
    return x * (keep.to(x.dtype) * (256 / (256 - limit)))


class Dropout(torch.nn.Module):
    """`dropout` as a layer."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape in, the same shape out."""
        return dropout(x, self.p, self.training)
