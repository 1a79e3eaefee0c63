"""Rewards: what a list is worth to a request."""

from goalrank.rewards.base import Reward
from goalrank.rewards.combine import Ensemble, Weighted
from goalrank.rewards.list_reward import Link, ListReward
from goalrank.rewards.observed import ObservedGain

__all__ = ["Ensemble", "Link", "ListReward", "ObservedGain", "Reward", "Weighted"]
