"""Planted worlds: simulators whose true expected reward of any list is known."""

from __future__ import annotations

from goalrank.worlds.asking import Asked
from goalrank.worlds.config import FactorsConfig, KindConfig, LoggingConfig, WorldConfig
from goalrank.worlds.describe import Description, describe, pointwise_lists
from goalrank.worlds.enumeration import (
    LIST_LIMIT,
    OptimalPolicy,
    all_rewards,
    enumerate_lists,
    exact_optimum,
    optimal_policy,
)
from goalrank.worlds.fitted import FittedWorld, fit_world
from goalrank.worlds.judge import Judge, Judged, Truth
from goalrank.worlds.latents import Latents
from goalrank.worlds.measures import Measures, kl_divergence, measure, regret, share_exact
from goalrank.worlds.policies import (
    LoggingPolicy,
    Policy,
    gumbel_top_k,
    list_log_prob,
    set_log_prob,
)
from goalrank.worlds.ranker_policy import RankerPolicy, explored_chance
from goalrank.worlds.reward_search import batch_rows, best_under
from goalrank.worlds.sampling import round_seed, sample, sample_to
from goalrank.worlds.scene import Physics, Prefix, Scene
from goalrank.worlds.search import SearchResult, near_optimum
from goalrank.worlds.tables import item_table, user_table
from goalrank.worlds.true_reward import TrueReward
from goalrank.worlds.world import DAY_US, EPOCH_US, World

__all__ = [
    "DAY_US",
    "EPOCH_US",
    "LIST_LIMIT",
    "Asked",
    "Description",
    "FactorsConfig",
    "FittedWorld",
    "Judge",
    "Judged",
    "KindConfig",
    "Latents",
    "LoggingConfig",
    "LoggingPolicy",
    "Measures",
    "OptimalPolicy",
    "Physics",
    "Policy",
    "Prefix",
    "RankerPolicy",
    "Scene",
    "SearchResult",
    "TrueReward",
    "Truth",
    "World",
    "WorldConfig",
    "all_rewards",
    "batch_rows",
    "best_under",
    "describe",
    "enumerate_lists",
    "exact_optimum",
    "explored_chance",
    "fit_world",
    "gumbel_top_k",
    "item_table",
    "kl_divergence",
    "list_log_prob",
    "measure",
    "near_optimum",
    "optimal_policy",
    "pointwise_lists",
    "regret",
    "round_seed",
    "sample",
    "sample_to",
    "set_log_prob",
    "share_exact",
    "user_table",
]
