"""Executors by name."""

from __future__ import annotations

from goalrank.compute.executor import Executor, LocalExecutor
from goalrank.compute.ray_executor import RayExecutor
from goalrank.errors import ConfigError

EXECUTORS = ("local", "ray")


def open_executor(name: str = "local", *, workers: int = 0, gpus: float = 0.0) -> Executor:
    """Open an executor; use it as a context manager, or close it.

    Args:
        name: "local": threads of this process. "ray": the cluster that the environment variable
            RAY_ADDRESS names, or one of this machine's cores.
        workers: parts at once; 0 = one per core. A running cluster has its own number.
        gpus: GPUs that each part needs; "ray" places parts by it.

    Raises:
        ConfigError: no such executor, or workers below 0.
        MissingExtraError: "ray" without the extra.
        ExecutorError: the cluster does not answer.
    """
    if workers < 0:
        raise ConfigError(f"workers is {workers}, but must be 0 or more; option: workers")
    if name == "local":
        return LocalExecutor(workers)
    if name == "ray":
        return RayExecutor(workers=workers, gpus=gpus)
    raise ConfigError(
        f"executor '{name}' is unknown; remedy: one of {', '.join(EXECUTORS)}; option: executor"
    )
