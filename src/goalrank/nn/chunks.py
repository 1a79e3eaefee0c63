"""Computation in chunks of candidates, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK_ROWS = 65_536  # requests × candidates per chunk


def in_chunks(function: Callable[..., Tensor], *parts: Tensor, rows: int = CHUNK_ROWS) -> Tensor:
    """Compute function(*parts) in chunks of candidates where there are many.

    Args:
        function: maps tensors [B, n, ·] to [B, n, ·]; the result of each candidate must depend on
            its own rows alone.
        *parts: tensors [B, N, ·].
        rows: B · n per chunk. Where gradients are needed, a chunk's inner results are recomputed in
            the backward pass instead of stored.

    Returns:
        [B, N, ·], equal to that of one call up to rounding.
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
        result = function(*piece)
        if out is None:
            out = result.new_empty(b, n, *result.shape[2:])
        out[:, i * size : i * size + result.shape[1]] = result
    return function(*parts) if out is None else out
