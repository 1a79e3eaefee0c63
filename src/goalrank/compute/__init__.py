"""Where work on many parts runs: threads, processes, or a Ray cluster."""

from goalrank.compute.executor import Engine, LocalEngine, usable_cores
from goalrank.compute.factory import ENGINES, open_engine
from goalrank.compute.processes import Spread, spread_over
from goalrank.compute.ray_executor import RayEngine

__all__ = [
    "ENGINES",
    "Engine",
    "LocalEngine",
    "RayEngine",
    "Spread",
    "open_engine",
    "spread_over",
    "usable_cores",
]
