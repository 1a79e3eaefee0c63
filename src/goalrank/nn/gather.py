"""Picking rows of a batch of matrices."""

from __future__ import annotations

import torch
from torch import Tensor


def take_rows(values: Tensor, at: Tensor) -> Tensor:
    """values[b, at[b, m]]: [B, N, D] and [B, M] → [B, M, D].

    One flat row selection: its gradient is a row-wise sum, far cheaper than that of an expanded
    gather.
    """
    b, n, d = values.shape
    offset = torch.arange(b, device=at.device)[:, None] * n
    return values.reshape(b * n, d).index_select(0, (at + offset).reshape(-1)).view(b, -1, d)
