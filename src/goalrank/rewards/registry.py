"""Rewards by name."""

from __future__ import annotations

from goalrank.registry import Registry
from goalrank.rewards.base import Reward

_ROOM = "goalrank.rewards"

REWARDS: Registry[type[Reward]] = Registry(
    "reward",
    "goalrank.rewards",
    {
        "ensemble": f"{_ROOM}.combined:Ensemble",
        "list_reward": f"{_ROOM}.list_reward:ListReward",
        "observed_gain": f"{_ROOM}.observed:ObservedGain",
        "weighted": f"{_ROOM}.combined:Weighted",
    },
    option="reward.name",
    base=Reward,
)
