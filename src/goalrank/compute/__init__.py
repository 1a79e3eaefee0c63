"""Where work runs: threads, processes, or a Ray cluster; and the memory that a process keeps."""

from goalrank.compute.executor import Executor, LocalExecutor, usable_cores
from goalrank.compute.factory import EXECUTORS, open_executor
from goalrank.compute.memory import keep_freed_memory
from goalrank.compute.processes import ParallelMap, process_map
from goalrank.compute.ray_executor import RayExecutor

__all__ = [
    "EXECUTORS",
    "Executor",
    "LocalExecutor",
    "ParallelMap",
    "RayExecutor",
    "keep_freed_memory",
    "open_executor",
    "process_map",
    "usable_cores",
]
