"""Simulators that know the true expected reward of every list."""

from goalrank.worlds.sampling.logging_policies import (
    BehaviourPolicy,
    LoggingPolicy,
    gumbel_top_k,
    list_log_prob,
    set_log_prob,
)
from goalrank.worlds.sampling.ranker_policy import RankerPolicy, exploration_probability
from goalrank.worlds.sampling.request_draws import DrawnRequests
from goalrank.worlds.sampling.sampler import round_seed, sample, sample_to
from goalrank.worlds.sampling.tables import drawn_table, item_table, user_table
from goalrank.worlds.simulator import World
from goalrank.worlds.truth.enumeration import (
    LIST_LIMIT,
    OptimalPolicy,
    all_rewards,
    enumerate_lists,
    exact_optimum,
    optimal_policy,
)
from goalrank.worlds.truth.headroom import WorldHeadroom, describe, pointwise_lists
from goalrank.worlds.truth.measures import Measures, kl_divergence, measure, regret, share_exact
from goalrank.worlds.truth.regret import ReferenceRewards, RegretMeter, TrueEvaluation
from goalrank.worlds.truth.reward_search import batch_rows, search_best_lists
from goalrank.worlds.truth.search import SearchResult, near_optimum
from goalrank.worlds.truth.true_reward import TrueReward
from goalrank.worlds.world.config import FactorsConfig, KindConfig, LoggingConfig, WorldConfig
from goalrank.worlds.world.fitted import FittedWorld, fit_world
from goalrank.worlds.world.latents import Latents
from goalrank.worlds.world.response_model import Prefix, ResponseModel, ResponseParameters
from goalrank.worlds.world.world import DAY_US, EPOCH_US, PlantedWorld

__all__ = [
    "DAY_US",
    "EPOCH_US",
    "LIST_LIMIT",
    "BehaviourPolicy",
    "DrawnRequests",
    "FactorsConfig",
    "FittedWorld",
    "KindConfig",
    "Latents",
    "LoggingConfig",
    "LoggingPolicy",
    "Measures",
    "OptimalPolicy",
    "PlantedWorld",
    "Prefix",
    "RankerPolicy",
    "ReferenceRewards",
    "RegretMeter",
    "ResponseModel",
    "ResponseParameters",
    "SearchResult",
    "TrueEvaluation",
    "TrueReward",
    "World",
    "WorldConfig",
    "WorldHeadroom",
    "all_rewards",
    "batch_rows",
    "describe",
    "drawn_table",
    "enumerate_lists",
    "exact_optimum",
    "exploration_probability",
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
    "search_best_lists",
    "set_log_prob",
    "share_exact",
    "user_table",
]
