"""The Reward: what a list is worth to a request."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from goalrank.errors import BundleError, ConfigError
from goalrank.requests import Batch, InputSpec


class Reward(nn.Module):
    """(request, list) → number; higher is better.

    What a reward can do beside that is asked of the reward itself. The defaults here are those of
    a reward that knows whole lists only and is never saved.
    """

    kind_index: Sequence[int] = ()
    """Indices of the feedback kinds whose probabilities `slot_probabilities` predicts."""

    @abstractmethod
    def forward(self, batch: Batch, lists: Tensor) -> Tensor:
        """Rewards [B, G] of lists [B, G, L] (positions on the N axis, -1 where ended)."""

    @property
    def members(self) -> Sequence[Reward]:
        """Models whose mean the reward is (before any pessimism); the reward itself by default."""
        return (self,)

    @property
    def parts(self) -> Sequence[Reward]:
        """Rewards that this one is computed from; none by default."""
        return ()

    @property
    def has_slot_rewards(self) -> bool:
        """Whether `by_slot` divides the reward of a list over its slots."""
        return False

    def by_slot(self, batch: Batch, lists: Tensor) -> Tensor:
        """Reward [B, G, L] that each slot of lists [B, G, L] adds; 0 at empty slots.

        Raises:
            ConfigError: `has_slot_rewards` is False.
        """
        raise ConfigError(
            f"reward {type(self).__name__} values whole lists and has no reward per slot; remedy: "
            f"ask `has_slot_rewards` first, or give the class a method `by_slot`"
        )

    def slot_probabilities(self, batch: Batch, lists: Tensor) -> Tensor:
        """Probabilities [B, G, L, K'] in [0, 1] of the kinds of `kind_index` at every slot.

        Raises:
            ConfigError: `kind_index` is empty.
        """
        raise ConfigError(
            f"reward {type(self).__name__} predicts no feedback; remedy: a list reward model "
            f"(ListReward), or ask `kind_index` first"
        )

    def encoder_state(self) -> Mapping[str, Tensor] | None:
        """Weights of the request encoder, of several the first one's; None without an encoder."""
        states = (part.encoder_state() for part in self.parts)
        return next((state for state in states if state is not None), None)

    def config(self) -> dict[str, Any]:
        """Constructor arguments beside the `InputSpec` and `parts`; plain JSON values.

        Raises:
            BundleError: a class that cannot be saved.
        """
        raise BundleError(
            f"a bundle cannot hold a reward of class {type(self).__name__}, which has no method "
            f"`config`; remedy: save the bundle without the reward"
        )

    @classmethod
    def from_config(
        cls, spec: InputSpec, config: Mapping[str, Any], parts: Sequence[Reward]
    ) -> Self:
        """A reward of the shape that `config` described; its weights are to be loaded.

        Args:
            spec: input sizes.
            config: what `config` gave.
            parts: the rewards of `parts`, rebuilt.

        Raises:
            BundleError: a class that cannot be saved.
        """
        raise BundleError(
            f"a reward of class {cls.__name__} cannot be loaded: the class has no method "
            f"`from_config`; remedy: save the bundle without the reward"
        )


def slot_rewards(reward: Reward, batch: Batch, lists: Tensor) -> Tensor:
    """Reward [B, G, L] of each slot of lists [B, G, L], summing to the list's reward.

    A reward that has no rewards per slot is given whole at the last filled slot.
    """
    if reward.has_slot_rewards:
        return reward.by_slot(batch, lists)
    last = ((lists >= 0).sum(-1, keepdim=True) - 1).clamp_min(0)
    out = torch.zeros(lists.shape, dtype=torch.float32, device=lists.device)
    return out.scatter(-1, last, reward(batch, lists).float().unsqueeze(-1))
