"""Constraints known before decoding: which candidates each slot may take, for any prefix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from goalrank.constraints.constraints import CompiledConstraints
from goalrank.constraints.decoding import Resolved


def is_prefix_free(compiled: CompiledConstraints) -> bool:
    """Whether the candidates allowed at a slot do not depend on the slots before it."""
    return not compiled.joint and compiled.groups is None


def open_slots(constraints: Sequence[Resolved | None], slots: int, n: int) -> Tensor | None:
    """[B, L, N] True where a candidate may be placed in a slot, for any prefix.

    Args:
        constraints: per request, `is_prefix_free`; None allows everything.
        slots: L.
        n: N of the batch.

    Returns:
        None where no request has constraints.
    """
    if all(resolved is None for resolved in constraints):
        return None
    out = np.ones((len(constraints), slots, n), np.bool_)
    for row, resolved in enumerate(constraints):
        if resolved is None:
            continue
        compiled, size = resolved[0], len(resolved[0].allowed)
        pinned = [at for at in compiled.pins.values() if at >= 0]
        free = compiled.allowed.copy()
        free[pinned] = False
        out[row, :, :size] = free
        for slot, at in compiled.pins.items():
            out[row, slot] = False
            out[row, slot, at] = True
        out[row, compiled.length :] = False
    return torch.from_numpy(out)
