"""Number formats of scores."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_single(x: Tensor) -> Tensor:
    """Convert half-precision numbers to float32, for scores that will be summed.

    Args:
        x: any shape; float32 and wider formats are returned unchanged.
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
