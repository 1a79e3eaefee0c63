"""Number formats."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_single(x: Tensor) -> Tensor:
    """Half-precision numbers as float32, wider ones as they are: for scores that will be summed."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
