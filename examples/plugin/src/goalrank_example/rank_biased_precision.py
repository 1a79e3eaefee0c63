"""A metric: rank-biased precision."""

from __future__ import annotations

import torch
from torch import Tensor

from goalrank.evaluation import SlotValues

_PATIENCE = 0.8  # chance that a user who looked at a slot looks at the next


def rank_biased_precision(values: SlotValues) -> Tensor:
    """rbp@L = (1 − p) Σ_t p^(t−1) y_t with p = 0.8: [B], NaN for requests without a positive.

    It is linear in y_t, the chance that slot t holds a positive, so ties between scores get their
    expected value without any further work.

    Source: Moffat and Zobel, TOIS 2008.
    """
    t = torch.arange(values.slots, device=values.hit.device, dtype=values.hit.dtype)
    return values.undefined((1 - _PATIENCE) * (values.hit * _PATIENCE**t).sum(1))
