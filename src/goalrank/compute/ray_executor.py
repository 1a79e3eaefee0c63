"""`RayExecutor`: parts as Ray tasks; a killed worker costs a retry."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from goalrank.compute.executor import Executor, Lost
from goalrank.errors import ExecutorError, GoalRankError, MissingExtraError, rebuilt_error

P = TypeVar("P")
R = TypeVar("R")
S = TypeVar("S")


class RayExecutor(Executor):
    """A Ray cluster that runs each part as a task on one core.

    It is the cluster that RAY_ADDRESS names, the one that this process is connected to, or a fresh
    one of this machine's cores.

    Ray runs a part again, up to `tries` times in all, when its worker process or machine is lost;
    errors that the function raises are not tried again and come out as they would locally. At
    most four parts per worker are under way or waiting to be taken, so memory stays bounded.

    Args:
        workers: cores of a fresh cluster; 0 = all. A running cluster has its own number.
        gpus: GPUs that each part needs.
        tries: of a part whose worker dies, including the first one.

    Raises:
        MissingExtraError: Ray is not installed.
        ExecutorError: the cluster does not answer.
    """

    name = "ray"
    remote = True

    def __init__(self, workers: int = 0, gpus: float = 0.0, tries: int = 4) -> None:
        self.tries = tries
        try:
            import ray
        except ImportError:
            raise MissingExtraError("executor 'ray'", "ray") from None
        self._ray: Any = ray
        self._own = not ray.is_initialized()
        if self._own:
            _start(ray, workers)
        have = ray.cluster_resources()
        if gpus and not have.get("GPU"):
            self.close()
            raise ExecutorError(
                "the Ray cluster has no GPU; remedy: --device cpu, or a cluster with GPUs "
                "(option: device)"
            )
        self.workers = max(int(have.get("GPU", 0) / gpus if gpus else have.get("CPU", 1)), 1)
        self._task: Any = ray.remote(max_retries=tries - 1, num_cpus=1, num_gpus=gpus)(_call)

    def map(
        self,
        function: Callable[[S, P], R],
        shared: S,
        parts: Iterable[P],
        *,
        lost: Lost[P, R] | None = None,
    ) -> Iterator[R]:
        """See `Executor.map`."""
        job = self._ray.put((function, shared))
        window: deque[tuple[P, Any]] = deque()
        try:
            for part in parts:
                window.append((part, self._task.remote(job, part)))
                if len(window) >= 4 * self.workers:
                    yield self._take(*window.popleft(), lost)
            while window:
                yield self._take(*window.popleft(), lost)
        finally:
            for _, pending in window:
                self._ray.cancel(pending, force=True)

    def _take(self, part: P, pending: Any, lost: Lost[P, R] | None) -> R:
        exceptions = self._ray.exceptions
        try:
            fault, result = self._ray.get(pending)
        except exceptions.RayTaskError as error:
            cause = error.cause
            if not isinstance(cause, Exception) or isinstance(cause, exceptions.RayError):
                raise ExecutorError(
                    f"a worker of the Ray cluster could not take up its part: "
                    f"{str(cause).splitlines()[0]}; remedy: install the same goalrank, with the "
                    f"same extras, on every machine"
                ) from error
            raise cause from None
        except exceptions.RayError as error:
            reason = f"its worker was lost {self.tries} times ({type(error).__name__})"
            if lost is not None:
                return lost(part, reason)
            raise ExecutorError(
                f"a part of the work could not be done on the Ray cluster: {reason}; remedy: look "
                f"for workers out of memory, use smaller parts or fewer workers, run it again"
            ) from error
        if fault is not None:
            raise rebuilt_error(*fault)
        done: R = result
        return done

    def close(self) -> None:
        """Stop the cluster if this executor started it."""
        if self._own and self._ray.is_initialized():
            self._ray.shutdown()
        self._own = False


def _start(ray: Any, workers: int) -> None:
    """Connect to RAY_ADDRESS, or start a cluster of this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports
    address = os.environ.get("RAY_ADDRESS")
    fresh: dict[str, Any] = {
        "address": "local",  # not whichever cluster happens to run here
        "num_cpus": workers or os.cpu_count(),
        "include_dashboard": False,
    }
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **({} if address else fresh))
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise ExecutorError(_refusal(str(error) or repr(error), address)) from error


def _refusal(said: str, address: str | None) -> str:
    """Say why there is no cluster: none answers, or the cluster refuses this process."""
    where = f"at RAY_ADDRESS={address}" if address else "of this machine"
    first = said.splitlines()[0]
    if "token" in said.lower() or (address and _listens(said, address)):
        return (
            f"the Ray cluster {where} is there but refuses this process ({first}); "
            f"remedy: where it wants a token, RAY_AUTH_MODE=token and the cluster's token in "
            f"RAY_AUTH_TOKEN or ~/.ray/auth_token; else install the cluster's version of Ray; or "
            f"--executor local"
        )
    return (
        f"no Ray cluster {where}: {first}; remedy: start one by 'ray start --head', unset "
        f"RAY_ADDRESS for a local one, or --executor local"
    )


def _listens(said: str, address: str) -> bool:
    """Whether a program listens at the address in Ray's error, or else at the given one."""
    found = re.search(r"([\w.-]+):(\d+)", said) or re.search(r"([\w.-]+):(\d+)", address)
    # The system takes a port modulo 65,536, and another program may listen there.
    if found is None or not 0 < int(found[2]) < 65_536:
        return False
    try:
        socket.create_connection((found[1], int(found[2])), timeout=2).close()
    except OSError:
        return False
    return True


def _call(job: tuple[Callable[[S, P], R], S], part: P) -> tuple[tuple[str, str] | None, R | None]:
    """Run one part on a worker; our own errors travel as text, since they may not be rebuilt."""
    function, shared = job
    try:
        return None, function(shared, part)
    except GoalRankError as error:
        return (type(error).__name__, str(error)), None
