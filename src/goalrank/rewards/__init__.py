"""Rewards: what a list is worth to a request."""

from goalrank.rewards.base import Reward, slot_rewards
from goalrank.rewards.combined import Ensemble, Weighted
from goalrank.rewards.description import describe_reward, rebuild_reward
from goalrank.rewards.list_reward import Link, ListReward
from goalrank.rewards.observed import ObservedGain
from goalrank.rewards.registry import REWARDS

__all__ = [
    "REWARDS",
    "Ensemble",
    "Link",
    "ListReward",
    "ObservedGain",
    "Reward",
    "Weighted",
    "describe_reward",
    "rebuild_reward",
    "slot_rewards",
]
