"""Training: groups, the reference policy, objectives, and the job from logs to a generator."""

from goalrank.training.config import (
    FitConfig,
    LoopConfig,
    ObjectiveConfig,
    PartialRecipe,
    RewardConfig,
    build_config,
    load_config,
)
from goalrank.training.data_rules import DataFacts, resolved, rules_applied
from goalrank.training.distributed.data_parallel import check_devices, part_sizes
from goalrank.training.distributed.lost_processes import PeerLostError, lost_processes
from goalrank.training.distributed.options import PerStage, RunOptions
from goalrank.training.distributed.process_group import (
    barrier,
    gather_bytes,
    is_distributed,
    is_first,
    join_process_group,
    process_rank,
    resolve_options,
)
from goalrank.training.groups.builder import GroupBuilder
from goalrank.training.groups.cached_scores import CachedScores
from goalrank.training.groups.config import GroupConfig
from goalrank.training.groups.group import SOURCES, Group
from goalrank.training.job import Fitted, Job, check_names, run_job
from goalrank.training.label_leaks import label_leaks
from goalrank.training.linear_start import LinearStart
from goalrank.training.loop.stage import run_stage
from goalrank.training.loop.start_candidate import read_comparison
from goalrank.training.loop.telemetry import read_telemetry
from goalrank.training.modules.group import GroupTask
from goalrank.training.modules.neighbours import NeighbourTask
from goalrank.training.modules.ppo import PPOTask
from goalrank.training.modules.reward_model import RewardTask, feedback_at
from goalrank.training.modules.supervised import SupervisedTask
from goalrank.training.modules.task import Task
from goalrank.training.objectives.group_objectives import OBJECTIVES, Objective
from goalrank.training.objectives.reference_policy import (
    group_cross_entropy,
    group_statistics,
    rank_policy,
    reference_policy,
)
from goalrank.training.rewards import build_list_reward, build_reward, unexposed_is_negative

__all__ = [
    "OBJECTIVES",
    "SOURCES",
    "CachedScores",
    "DataFacts",
    "FitConfig",
    "Fitted",
    "Group",
    "GroupBuilder",
    "GroupConfig",
    "GroupTask",
    "Job",
    "LinearStart",
    "LoopConfig",
    "NeighbourTask",
    "Objective",
    "ObjectiveConfig",
    "PPOTask",
    "PartialRecipe",
    "PeerLostError",
    "PerStage",
    "RewardConfig",
    "RewardTask",
    "RunOptions",
    "SupervisedTask",
    "Task",
    "barrier",
    "build_config",
    "build_list_reward",
    "build_reward",
    "check_devices",
    "check_names",
    "feedback_at",
    "gather_bytes",
    "group_cross_entropy",
    "group_statistics",
    "is_distributed",
    "is_first",
    "join_process_group",
    "label_leaks",
    "load_config",
    "lost_processes",
    "part_sizes",
    "process_rank",
    "rank_policy",
    "read_comparison",
    "read_telemetry",
    "reference_policy",
    "resolve_options",
    "resolved",
    "rules_applied",
    "run_job",
    "run_stage",
    "unexposed_is_negative",
]
