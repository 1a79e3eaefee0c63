"""Where work on many parts runs: threads, processes, or a Ray cluster."""

from goalrank.compute.executor import Executor, LocalExecutor, usable_cores
from goalrank.compute.factory import EXECUTORS, open_executor
from goalrank.compute.processes import ParallelMap, process_map
from goalrank.compute.ray_executor import RayExecutor

__all__ = [
    "EXECUTORS",
    "Executor",
    "LocalExecutor",
    "ParallelMap",
    "RayExecutor",
    "open_executor",
    "process_map",
    "usable_cores",
]
