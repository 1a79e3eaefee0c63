"""Micro-batching: requests that wait at the same time are ranked together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class FullError(Exception):
    """Too much waits already."""


class Batcher(Generic[T, R]):
    """One thread that takes what waits, at most `most` jobs, and works on it at once.

    Where the work on a batch fails, each job is tried alone, so that a fault stays its own.

    Args:
        work: jobs → results in their order.
        depth: jobs that may wait; more are refused.
    """

    def __init__(
        self, work: Callable[[Sequence[T]], Sequence[R]], *, most: int = 64, depth: int = 4096
    ) -> None:
        self._work, self._most = work, most
        self._queue: queue.Queue[tuple[T, Future[R]] | None] = queue.Queue(depth)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return self._queue.qsize()

    def submit(self, job: T) -> Future[R]:
        """The job's result, later.

        Raises:
            FullError: too much waits.
        """
        done: Future[R] = Future()
        try:
            self._queue.put_nowait((job, done))
        except queue.Full as error:
            raise FullError from error
        return done

    def close(self) -> None:
        """Finish what waits."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            batch, last = [first], False
            while len(batch) < self._most and not self._queue.empty():
                job = self._queue.get()
                if job is None:
                    last = True
                    break
                batch.append(job)
            # Whoever gave up waiting (deadline) has cancelled: do not work for nobody.
            self._finish([pair for pair in batch if pair[1].set_running_or_notify_cancel()])
            if last:
                return

    def _finish(self, batch: list[tuple[T, Future[R]]]) -> None:
        if not batch:
            return
        try:
            results = self._work([job for job, _ in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for pair in batch:
                self._finish([pair])
            return
        for (_, done), result in zip(batch, results):
            done.set_result(result)
