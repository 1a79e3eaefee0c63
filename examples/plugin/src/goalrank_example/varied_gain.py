"""A reward without learning: what was liked, and a list that does not repeat itself."""

from __future__ import annotations

import torch
from torch import Tensor

from goalrank.requests import Batch
from goalrank.rewards import Reward


class VariedGain(Reward):
    """Discounted gain of the logged relevance, less a share where a category was just above.

    Slot t is worth relevance / log2(t + 2); if its item shares a category with the item above, that
    is multiplied by 1 − `repeat`. Items without categories never repeat.

    `repeat`, after the star, is an option: `[reward.options] repeat = 0.25`. It is kept in an
    attribute of the same name, and so a bundle can hold the reward.

    Args:
        repeat: in [0, 1]; 0 is the plain discounted gain.

    Source: Järvelin and Kekäläinen, 2002, for the discount.
    """

    def __init__(self, *, repeat: float = 0.5) -> None:
        super().__init__()
        self.repeat = float(repeat)

    @property
    def has_slot_rewards(self) -> bool:
        """The reward is a sum over slots."""
        return True

    def forward(self, batch: Batch, lists: Tensor) -> Tensor:
        """Value lists [B, G, L]: [B, G]."""
        return self.by_slot(batch, lists).sum(-1)

    def by_slot(self, batch: Batch, lists: Tensor) -> Tensor:
        """Value each slot: [B, G, L]."""
        b, g, slots = lists.shape
        at = lists.clamp_min(0).view(b, -1)
        gain = batch.relevance.gather(1, at).view(b, g, slots)
        discount = torch.log2(torch.arange(slots, device=lists.device) + 2.0)
        items = batch.candidates.gather(1, at).view(b, g, slots)
        kept = torch.where(_repeats(batch.items.category[items]), 1.0 - self.repeat, 1.0)
        return gain * kept * (lists >= 0) / discount


def _repeats(category: Tensor) -> Tensor:
    """Whether each slot shares a category with the slot above.

    Args:
        category: [B, G, L, M] rows of the category table, 0 for none.

    Returns:
        [B, G, L]; False at the first slot.
    """
    here, above = category[..., 1:, :, None], category[..., :-1, None, :]
    shared = ((here == above) & (here > 0)).flatten(-2).any(-1)
    return torch.nn.functional.pad(shared, (1, 0), value=False)
