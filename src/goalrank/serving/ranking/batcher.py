"""Micro-batches: jobs that wait at the same time are worked on together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from goalrank.errors import OverloadError

T = TypeVar("T")
R = TypeVar("R")
THREAD = "goalrank-batcher"


class Batcher(Generic[T, R]):
    """A thread that works on all waiting jobs at once, in batches of limited size.

    If the work on a batch fails, each job is tried alone, so that one faulty job does not fail the
    others.

    Args:
        work: makes the results of a batch of jobs, in their order.
        full: what is said of a job that is refused.
        batch_size: jobs per batch, at most; at least 1.
        depth: jobs that may wait; further ones are refused.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Sequence[R]],
        *,
        full: str = "too many requests wait; send it again",
        batch_size: int = 64,
        depth: int = 4096,
    ) -> None:
        self._work, self._batch_size = work, batch_size
        self._depth, self._full = depth, full
        self._queue: queue.SimpleQueue[tuple[T, Future[R]] | None] = queue.SimpleQueue()
        self._open, self._lock = True, threading.Lock()  # no job comes after the end
        self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of jobs in the queue."""
        return self._queue.qsize()

    def submit(self, job: T) -> Future[R]:
        """Add a job to the queue.

        Args:
            job: the job.

        Returns:
            A future of its result.

        Raises:
            OverloadError: `depth` jobs are waiting, or `close` was called: nobody would do the job.
        """
        done: Future[R] = Future()
        with self._lock:
            if not self._open or self._queue.qsize() >= self._depth:
                raise OverloadError(self._full)
            self._queue.put((job, done))
        return done

    def close(self, timeout: float | None = None) -> None:
        """Finish the waiting jobs, then stop the thread.

        Args:
            timeout: seconds to wait, at most; None waits as long as it takes.
        """
        with self._lock:
            self._open = False
            self._queue.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            batch, last = [first], False
            while len(batch) < self._batch_size and not self._queue.empty():
                job = self._queue.get()
                if job is None:
                    last = True
                    break
                batch.append(job)
            # A caller whose deadline passed has cancelled its job: leave that one out.
            self._finish([pair for pair in batch if pair[1].set_running_or_notify_cancel()])
            if last:
                return

    def _finish(self, batch: list[tuple[T, Future[R]]]) -> None:
        if not batch:
            return
        try:
            results = self._work([job for job, _ in batch])
        except BaseException as error:  # a thread that ends would leave all who come later waiting
            if len(batch) == 1:
                batch[0][1].set_exception(_fault(error))
                return
            for pair in batch:
                self._finish([pair])
            return
        for (_, done), result in zip(batch, results):
            done.set_result(result)


def _fault(error: BaseException) -> Exception:
    """An error that a caller can catch as any other: polars ends in a panic, which is none."""
    if isinstance(error, Exception):
        return error
    fault = RuntimeError(f"the work ended: {error!r}")
    fault.__cause__ = error
    return fault
