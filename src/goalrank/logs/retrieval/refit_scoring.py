"""Refits in order of time, each followed by scoring of its requests in chunks by an executor."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from goalrank.compute import Executor
from goalrank.logs.events.arrays import Codes, Events, Longs, ragged_ranges
from goalrank.logs.events.request_points import RequestPoints
from goalrank.logs.retrieval.channel import Chunk

__all__ = [
    "ChunkResult",
    "Learner",
    "chunk_size",
    "new_rows",
    "one_ahead",
    "one_blas_thread",
    "score_refits",
    "worker_count",
]

_CELLS = 8_000_000  # scores per thread and channel; bounds the memory
_LARGEST_CHUNK = 256  # requests; small chunks fit the cache

T = TypeVar("T")
Learner = Callable[[Longs, int, int], None]
ChunkResult = dict[str, NDArray[Any]]
ChunkScorer = Callable[[Longs, Chunk], ChunkResult]
_TASKS_PER_WORKER = 4  # of a remote executor and block; each task has a cost


def worker_count(threads: int) -> int:
    """Number of worker threads.

    Args:
        threads: the number; 0 uses all cores.
    """
    return threads or os.cpu_count() or 1


def chunk_size(items: int) -> int:
    """Requests that are scored at once, for a number of known items."""
    return int(min(_LARGEST_CHUNK, max(16, _CELLS // max(1, items))))


def one_blas_thread() -> AbstractContextManager[object]:
    """Context in which BLAS uses one thread: chunks run in parallel, and results are repeatable."""
    try:
        import scipy.linalg  # noqa: F401  its BLAS must be loaded before it can be limited
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[object] = threadpool_limits(1, "blas")
    return limits


def score_refits(
    log: Events,
    points: RequestPoints,
    moments: Longs,
    *,
    users: Codes,
    items: Codes,
    learners: Sequence[Learner],
    score: ChunkScorer,
    executor: Executor,
    before: Callable[[int], None] | None = None,
) -> Iterator[tuple[Longs, ChunkResult]]:
    """Refit the learners and score the requests until the next refit, in order of time.

    Args:
        log: consumed items, sorted by user and time.
        points: requests by time.
        moments: [K] microseconds of the refits, ascending; requests before the first are left out.
        users: codes of users.
        items: codes of items.
        learners: called with (new rows, known items, known users) at each refit that is followed by
            requests; the rows of a skipped refit come with the next one.
        score: called with (rows of ``points``, chunk), in parallel, possibly in other processes; it
            must depend on the two alone and change nothing.
        executor: executor of ``score``.
        before: called with the time of each refit before its requests are scored, when those of all
            earlier refits have been taken.

    Yields:
        Rows of ``points``, in order, and the result of ``score``.
    """
    starts = np.searchsorted(points.time, moments)
    learned = log.user_start[:-1].copy()
    with ThreadPoolExecutor(max(len(learners), 1)) as pool:
        for moment, start, end in zip(moments, starts, np.append(starts[1:], len(points))):
            if start == end:
                continue
            known_items = items.known_before(int(moment))
            known_users = users.known_before(int(moment))
            fresh, learned = new_rows(log, learned, int(moment))
            futures = [pool.submit(f, fresh, known_items, known_users) for f in learners]
            for future in futures:
                future.result()
            del fresh, futures
            if before is not None:
                before(int(moment))
            size = chunk_size(known_items)
            parts = [
                np.arange(i, min(i + size, end), dtype=np.int64) for i in range(start, end, size)
            ]
            per_task = 1
            if executor.remote:
                per_task = -(-len(parts) // (_TASKS_PER_WORKER * executor.workers))
            tasks = [parts[i : i + per_task] for i in range(0, len(parts), per_task)]
            state = _Block(score, log, points, known_items, size, executor.remote)
            for task, results in zip(tasks, executor.map(_score_chunks, state, tasks)):
                yield from zip(task, results)


def one_ahead(results: Iterator[T]) -> Iterator[T]:
    """The same results, the next of which is made while the caller works on one.

    Args:
        results: none of them is None; they are asked for in another thread.
    """
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, results, None)
        while (result := coming.result()) is not None:
            coming = pool.submit(next, results, None)
            yield result


def new_rows(log: Events, learned: Longs, moment: int) -> tuple[Longs, Longs]:
    """Rows before a moment that were not learned yet, and the end of what is learned per user.

    Args:
        log: sorted by user and time.
        learned: [U] end of each user's rows that are learned.
        moment: microseconds.
    """
    everybody = np.arange(len(learned))
    ends = log.rows_before(everybody, np.full(len(learned), moment))
    return ragged_ranges(learned, ends - learned), ends


@dataclass(frozen=True)
class _Block:
    """State for scoring the requests between two refits."""

    score: ChunkScorer
    log: Events
    points: RequestPoints
    items: int
    size: int
    remote: bool

    def chunk(self, part: Longs) -> Chunk:
        """The requests of some rows with their histories."""
        user, time = self.points.user[part], self.points.time[part]
        start, end = self.log.user_start[user], self.log.rows_before(user, time)
        return Chunk(self.log, start, end, self.items, self.size)


def _score_chunks(block: _Block, parts: list[Longs]) -> list[ChunkResult]:
    with one_blas_thread() if block.remote else nullcontext():
        return [block.score(part, block.chunk(part)) for part in parts]
