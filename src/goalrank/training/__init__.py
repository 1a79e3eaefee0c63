"""Training: groups, the reference policy, objectives, and the job from logs to a generator."""

from goalrank.training.config import (
    FitConfig,
    LoopConfig,
    ObjectiveConfig,
    RewardConfig,
    build_config,
    load_config,
)
from goalrank.training.fit import Fitted, Job, build_reward, run_job, unexposed_is_negative
from goalrank.training.groups import SOURCES, CachedScores, Group, GroupBuilder, GroupConfig
from goalrank.training.launch import gather_bytes, is_first, join, place, settle, together, wait
from goalrank.training.loop import RunOptions, read_telemetry, run_stage
from goalrank.training.objectives import OBJECTIVES
from goalrank.training.parallel import part_sizes
from goalrank.training.reference import (
    group_cross_entropy,
    group_statistics,
    rank_policy,
    reference_policy,
)
from goalrank.training.rivals import NeighbourTask, PPOTask
from goalrank.training.tasks import GroupTask, RewardTask, SupervisedTask, Task, feedback_at

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
