"""The Reward: what a list is worth to a request."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from goalrank.constructor_options import check_options, keyword_options, other_parameters
from goalrank.errors import BundleError, ConfigError
from goalrank.requests import Batch, EncodedRequests, InputSpec


class Reward(nn.Module):
    """(request, list) → number; higher is better.

    Properties and methods say what else a reward can do. The defaults here are those
    of a reward that values whole lists and learns nothing. It is made from options by
    `from_config`, described by `config`, and trained by `fit`.
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
        """Constructor arguments besides the `InputSpec` and `parts`; plain JSON values.

        By default the keyword-only parameters of the constructor, read from attributes of the same
        names.

        Raises:
            BundleError: an attribute is missing.
        """
        cls = type(self)
        names = list(keyword_options(cls))
        lost = other_parameters(cls, ["spec"]) + [name for name in names if not hasattr(self, name)]
        if lost:
            raise BundleError(
                f"a bundle cannot hold a reward of class {cls.__name__}, since its arguments {lost} "
                f"are unknown afterwards; remedy: make them keyword-only and keep them in attributes "
                f"of their names, or write `config` and `from_config`, or save the bundle without "
                f"the reward"
            )
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(
        cls, spec: InputSpec, config: Mapping[str, Any], parts: Sequence[Reward]
    ) -> Self:
        """Make a reward from its options: those of a recipe, or those that `config` described.

        By default `config` goes to the keyword-only parameters of the constructor, and `spec` to a
        parameter of this name where there is one. Weights are fitted or loaded afterwards.

        Args:
            spec: input sizes.
            config: options, or what `config` gave.
            parts: the rewards of `parts`, rebuilt; a class that has parts writes its own method.

        Raises:
            ConfigError: an option is unknown, missing or of the wrong type, or the constructor wants
                more than that.
        """
        if more := other_parameters(cls, ["spec"]):
            raise ConfigError(
                f"reward {cls.__name__} cannot be made from options: it wants {more} as well; remedy: "
                f"write `from_config`, or make them keyword-only"
            )
        check_options(config, keyword_options(cls), f"reward {cls.__name__}", "reward.options")
        given = {"spec": spec} if "spec" in inspect.signature(cls).parameters else {}
        return cls(**given, **config)

    def fit(
        self,
        train: EncodedRequests,
        validation: EncodedRequests | None,
        slots: int,
        seed: int,
    ) -> None:
        """Learn from the training requests; a reward that learns nothing keeps this as it is.

        Args:
            train: the training requests.
            validation: for early stopping; may be None.
            slots: L of the lists that will be valued.
            seed: of every random draw.
        """


def slot_rewards(reward: Reward, batch: Batch, lists: Tensor) -> Tensor:
    """Reward [B, G, L] of each slot of lists [B, G, L], summing to the list's reward.

    A reward that has no rewards per slot is given whole at the last filled slot.
    """
    if reward.has_slot_rewards:
        return reward.by_slot(batch, lists)
    last = ((lists >= 0).sum(-1, keepdim=True) - 1).clamp_min(0)
    out = torch.zeros(lists.shape, dtype=torch.float32, device=lists.device)
    return out.scatter(-1, last, reward(batch, lists).float().unsqueeze(-1))
