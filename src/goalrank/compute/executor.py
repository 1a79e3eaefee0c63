"""`Executor`, the interface by which work on many parts is run, and `LocalExecutor`, its default."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

P = TypeVar("P")
R = TypeVar("R")
S = TypeVar("S")
Lost = Callable[[P, str], R]


def usable_cores() -> int:
    """Count the cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Executor(ABC):
    """Applies a function to many parts, here or elsewhere.

    The results are those of ``[function(shared, part) for part in parts]``, in that order: a
    function must depend on its arguments alone and change neither, for an executor may run it
    elsewhere, and again where a worker was lost.

    Attributes:
        name: as `open_executor` knows it.
        remote: whether functions run outside this process, on copies of their arguments.
        workers: parts worked on at once.
    """

    name: str
    remote: bool
    workers: int

    @abstractmethod
    def map(
        self,
        function: Callable[[S, P], R],
        shared: S,
        parts: Iterable[P],
        *,
        lost: Lost[P, R] | None = None,
    ) -> Iterator[R]:
        """Results in the order of the parts; few parts are held at once.

        Args:
            function: of a module (not nested) where the executor is remote.
            shared: what all parts need; sent once to a remote executor.
            parts: taken as they are needed.
            lost: what replaces a part whose workers died on every try, given the part and the
                reason; None raises.

        Raises:
            ExecutorError: a part's workers died on every try, or the cluster is gone.
        """

    def close(self) -> None:
        """Release what the executor holds."""
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class LocalExecutor(Executor):
    """Threads of this process; one worker runs in the caller's own thread.

    Args:
        workers: threads; 0 = one per usable core.
    """

    name = "local"
    remote = False

    def __init__(self, workers: int = 0) -> None:
        self.workers = workers or usable_cores()
        self._pool: ThreadPoolExecutor | None = None

    def map(
        self,
        function: Callable[[S, P], R],
        shared: S,
        parts: Iterable[P],
        *,
        lost: Lost[P, R] | None = None,
    ) -> Iterator[R]:
        """See `Executor.map`; nothing can be lost here without this process."""
        if self.workers == 1:
            for part in parts:
                yield function(shared, part)
            return
        self._pool = self._pool or ThreadPoolExecutor(self.workers)
        window: deque[Future[Any]] = deque()
        try:
            for part in parts:
                window.append(self._pool.submit(function, shared, part))
                if len(window) > 2 * self.workers:
                    yield window.popleft().result()
            while window:
                yield window.popleft().result()
        finally:
            for future in window:
                future.cancel()

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
