"""Planted worlds: simulators whose true expected reward of any list is known."""

from goalrank.worlds.sampling.logging_policies import (
    BehaviourPolicy,
    LoggingPolicy,
    gumbel_top_k,
    list_log_prob,
    set_log_prob,
)
from goalrank.worlds.sampling.ranker_policy import RankerPolicy, explored_chance
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
from goalrank.worlds.truth.headroom import Description, describe, pointwise_lists
from goalrank.worlds.truth.measures import Measures, kl_divergence, measure, regret, share_exact
from goalrank.worlds.truth.regret import JudgedLists, RegretMeter, Truth
from goalrank.worlds.truth.reward_search import batch_rows, best_under
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
    "Description",
    "DrawnRequests",
    "FactorsConfig",
    "FittedWorld",
    "JudgedLists",
    "KindConfig",
    "Latents",
    "LoggingConfig",
    "LoggingPolicy",
    "Measures",
    "OptimalPolicy",
    "PlantedWorld",
    "Prefix",
    "RankerPolicy",
    "RegretMeter",
    "ResponseModel",
    "ResponseParameters",
    "SearchResult",
    "TrueReward",
    "Truth",
    "World",
    "WorldConfig",
    "all_rewards",
    "batch_rows",
    "best_under",
    "describe",
    "drawn_table",
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
