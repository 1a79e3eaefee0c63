"""Rewards described by the arguments that build them, as a bundle's manifest keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goalrank.errors import BundleError
from goalrank.requests import InputSpec
from goalrank.rewards.base import Reward
from goalrank.rewards.combined import Ensemble, Weighted
from goalrank.rewards.list_reward import ListReward
from goalrank.rewards.observed import ObservedGain

_CLASSES: dict[str, type[Reward]] = {
    each.__name__: each for each in (Ensemble, ListReward, ObservedGain, Weighted)
}


def describe_reward(reward: Reward) -> dict[str, Any]:
    """What `rebuild_reward` needs to make an empty reward of the same shape; plain JSON values.

    Returns:
        `class`, its `arguments`, and under `members` the descriptions of its parts, if any.

    Raises:
        BundleError: a reward of a class that bundles do not know.
    """
    name = type(reward).__name__
    if _CLASSES.get(name) is not type(reward):
        raise BundleError(
            f"a bundle cannot hold a reward of class {name}; it holds "
            f"{', '.join(_CLASSES)}; remedy: save the bundle without the reward"
        )
    out: dict[str, Any] = {"class": name, "arguments": reward.config()}
    if reward.parts:
        out["members"] = [describe_reward(part) for part in reward.parts]
    return out


def rebuild_reward(description: Mapping[str, Any], spec: InputSpec) -> Reward:
    """A reward of the described shape; its weights are to be loaded.

    Raises:
        BundleError: a class that this version does not know.
    """
    name = description["class"]
    if name not in _CLASSES:
        raise BundleError(
            f"the bundle's reward is of class '{name}', which this goalrank does not know; remedy: "
            f"pip install --upgrade goalrank"
        )
    parts = [rebuild_reward(each, spec) for each in description.get("members", ())]
    return _CLASSES[name].from_config(spec, _arguments(description), parts)


def _arguments(description: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments; bundles of 0.1.0 kept those of composites beside the class."""
    if "arguments" in description:
        return dict(description["arguments"])
    return {k: v for k, v in description.items() if k not in ("class", "members")}
