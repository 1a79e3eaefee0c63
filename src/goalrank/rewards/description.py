"""Rewards described by the arguments that build them, as a bundle's manifest keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goalrank.errors import BundleError, ConfigError
from goalrank.registry import class_path
from goalrank.requests import InputSpec
from goalrank.rewards.base import Reward
from goalrank.rewards.registry import REWARDS


def describe_reward(reward: Reward) -> dict[str, Any]:
    """What `rebuild_reward` needs to make an empty reward of the same shape; plain JSON values.

    Returns:
        `class` (a class path), its `arguments`, and under `members` the descriptions of its parts,
        if any.

    Raises:
        BundleError: a reward whose class cannot be found again, or its arguments cannot be written.
    """
    out: dict[str, Any] = {"class": class_path(reward), "arguments": reward.config()}
    if reward.parts:
        out["members"] = [describe_reward(part) for part in reward.parts]
    return out


def rebuild_reward(description: Mapping[str, Any], spec: InputSpec) -> Reward:
    """A reward of the described shape; its weights are to be loaded.

    Classes of other packages are imported: whether they may be is decided before.

    Raises:
        BundleError: a class that this version does not know, or that cannot be imported or made.
    """
    parts = [rebuild_reward(each, spec) for each in description.get("members", ())]
    try:
        cls = REWARDS.recorded(description["class"])
        return cls.from_config(spec, _arguments(description), parts)
    except ConfigError as error:
        raise BundleError(
            f"the bundle's reward cannot be made: {error}; remedy: use the versions that made the "
            f"bundle"
        ) from error


def _arguments(description: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments; bundles of 0.1.0 kept those of composites next to the class."""
    if "arguments" in description:
        return dict(description["arguments"])
    return {k: v for k, v in description.items() if k not in ("class", "members")}
