"""Simulated online tests: arms serve a simulator's users and learn from their own logs."""

from goalrank.studies.online.config import (
    ArmConfig,
    DailyConfig,
    OnlineConfig,
    build_online,
    load_online,
)
from goalrank.studies.online.lifts import (
    Estimate,
    Lift,
    UserSums,
    compare,
    over_seeds,
    size_p_value,
)
from goalrank.studies.online.report import report_online
from goalrank.studies.online.run import run_online

__all__ = [
    "ArmConfig",
    "DailyConfig",
    "Estimate",
    "Lift",
    "OnlineConfig",
    "UserSums",
    "build_online",
    "compare",
    "load_online",
    "over_seeds",
    "report_online",
    "run_online",
    "size_p_value",
]
