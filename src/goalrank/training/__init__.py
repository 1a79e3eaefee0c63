"""Training: groups, the reference policy, objectives, and the job from logs to a generator."""

from goalrank.training.config import (
    FitConfig,
    LoopConfig,
    ObjectiveConfig,
    RewardConfig,
    build_config,
    load_config,
)
from goalrank.training.distributed.data_parallel import part_sizes
from goalrank.training.distributed.options import RunOptions
from goalrank.training.distributed.process_group import (
    gather_bytes,
    is_first,
    join,
    place,
    settle,
    together,
    wait,
)
from goalrank.training.groups.groups import SOURCES, CachedScores, Group, GroupBuilder, GroupConfig
from goalrank.training.job import Fitted, Job, build_reward, run_job, unexposed_is_negative
from goalrank.training.loop.stage import read_telemetry, run_stage
from goalrank.training.modules.reward_driven import NeighbourTask, PPOTask
from goalrank.training.modules.tasks import GroupTask, RewardTask, SupervisedTask, Task, feedback_at
from goalrank.training.objectives.group_objectives import OBJECTIVES
from goalrank.training.objectives.reference_policy import (
    group_cross_entropy,
    group_statistics,
    rank_policy,
    reference_policy,
)

__all__ = [
    "OBJECTIVES",
    "SOURCES",
    "CachedScores",
    "FitConfig",
    "Fitted",
    "Group",
    "GroupBuilder",
    "GroupConfig",
    "GroupTask",
    "Job",
    "LoopConfig",
    "NeighbourTask",
    "ObjectiveConfig",
    "PPOTask",
    "RewardConfig",
    "RewardTask",
    "RunOptions",
    "SupervisedTask",
    "Task",
    "build_config",
    "build_reward",
    "feedback_at",
    "gather_bytes",
    "group_cross_entropy",
    "group_statistics",
    "is_first",
    "join",
    "load_config",
    "part_sizes",
    "place",
    "rank_policy",
    "read_telemetry",
    "reference_policy",
    "run_job",
    "run_stage",
    "settle",
    "together",
    "unexposed_is_negative",
    "wait",
]
