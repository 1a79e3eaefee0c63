"""Vectors of history events: what happened, how long ago, in which order and at what distance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from goalrank.nn import Linear
from goalrank.requests import Batch

_NUMBERS = 4
_LARGEST = 1e9  # feedback beyond it is clipped: its square has to fit into single precision


class HistoryEvents(Linear):
    """Maps four numbers of each history event to a vector.

    The numbers are its feedback (clipped to ±10⁹), its age, its place counted from the newest event
    (log1p; 0 is the newest), and the gap to the next newer event or, for the newest, to the request
    (log1p of hours). Age alone tells neither order nor rhythm apart: five events in a minute and five in a
    week, both a month ago, have nearly the same ages.

    Its weights have two columns in versions that read feedback and age alone; they load.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__(_NUMBERS, width)

    def of(self, batch: Batch) -> Tensor:
        """Compute the vectors [B, H, D]; those of padded events mean nothing."""
        out: Tensor = self(_numbers(batch))
        return out

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load weights; numbers that they do not read get weight 0."""
        name = f"{prefix}weight"
        missing = _NUMBERS - state[name].shape[1] if name in state else 0
        if missing > 0:
            state[name] = torch.nn.functional.pad(state[name], (0, missing))
        super()._load_from_state_dict(state, prefix, *rest)


def _numbers(batch: Batch) -> Tensor:
    """Feedback, age, place and gap of each event, [B, H, 4]; 0 where padded."""
    real, age = batch.history_mask, batch.history_age
    newer = real.flip(-1).cumsum(-1).flip(-1) - 1  # oldest first
    hours = age.expm1()
    next_hours = torch.nn.functional.pad(hours[:, 1:], (0, 1))  # padding has age 0, as the request
    gap = (hours - next_hours).clamp_min(0).log1p()
    place = newer.clamp_min(0).to(age.dtype).log1p()
    feedback = batch.history_feedback.clamp(-_LARGEST, _LARGEST)
    numbers = torch.stack([feedback, age, place, gap], -1)
    return numbers * real.unsqueeze(-1)
