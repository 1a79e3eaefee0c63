"""Many candidates a few at a time, so that memory does not grow with their product by the width."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK_ROWS = 65_536  # requests × candidates worked on at once


def in_chunks(function: Callable[..., Tensor], *parts: Tensor, rows: int = CHUNK_ROWS) -> Tensor:
    """function(*parts), worked out for a few candidates at a time where they are many.

    Args:
        function: of tensors [B, n, ·] to [B, n, ·]; each candidate's result must depend on its
            own rows alone.
        parts: [B, N, ·] each.
        rows: B · n worked on at once. Where gradients are wanted, a chunk's inner results are
            worked out again on the way back instead of kept.

    Returns:
        [B, N, ·], that of one call (but for rounding).
    """
    b, n = parts[0].shape[:2]
    # A traced graph must not depend on the sizes of its example.
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return function(*parts)
    size = max(rows // max(b, 1), 1)
    if n <= size:
        return function(*parts)
    pieces = zip(*(part.split(size, 1) for part in parts))
    if torch.is_grad_enabled():
        return torch.cat([checkpoint(function, *p, use_reentrant=False) for p in pieces], 1)
    out: Tensor | None = None
    for i, piece in enumerate(pieces):
        made = function(*piece)
        if out is None:
            out = made.new_empty(b, n, *made.shape[2:])
        out[:, i * size : i * size + made.shape[1]] = made
    assert out is not None
    return out
