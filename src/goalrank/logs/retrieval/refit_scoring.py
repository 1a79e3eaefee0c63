"""Refits in order of time, each followed by scoring of its requests in chunks by an executor."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goalrank.compute import Executor
from goalrank.logs.events.arrays import Codes, Events, Longs
from goalrank.logs.events.request_points import RequestPoints
from goalrank.logs.retrieval.channel import Chunk
from goalrank.logs.retrieval.refits import Refits

__all__ = ["ChunkResult", "Learner", "one_blas_thread", "score_refits", "worker_count"]

_CELLS = 8_000_000  # scores per thread and channel; bounds the memory
_LARGEST_CHUNK = 256  # requests; small chunks fit the cache

Learner = Callable[[Longs, int, int], None]
ChunkResult = dict[str, NDArray[Any]]
ChunkScorer = Callable[[Longs, Chunk], ChunkResult]
Collector = Callable[[Longs, ChunkResult], None]
ChunkRows = tuple[Longs, Longs, Longs]  # rows of points, start and end of their histories
_TASKS_PER_WORKER = 4  # of a remote executor and block; each task has a cost


def worker_count(threads: int) -> int:
    """Number of worker threads.

    Args:
        threads: the number; 0 uses all cores.
    """
    return threads or os.cpu_count() or 1


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
    refits: Refits,
    *,
    users: Codes,
    items: Codes,
    learners: Sequence[Learner],
    score: ChunkScorer,
    collect: Collector,
    executor: Executor,
    before: Callable[[int], None] | None = None,
) -> None:
    """Refit the learners and score the requests until the next refit, in order of time.

    Args:
        log: consumed items, sorted by user and time.
        points: requests by time.
        refits: schedule of the refits; requests before the first refit are left out.
        users: codes of users.
        items: codes of items.
        learners: called with (new rows, known items, known users) at each refit that is followed by
            requests; the rows of a skipped refit come with the next one.
        score: called with (rows of ``points``, chunk), in parallel, possibly in other processes; it
            must depend on the two alone and change nothing.
        collect: called in this process with (rows of ``points``, result of ``score``).
        executor: executor of ``score``.
        before: called with the time of each refit before its requests are scored.
    """
    by_block = np.argsort(refits.row_block, kind="stable")
    ends = np.searchsorted(refits.row_block[by_block], np.arange(len(refits.moments)), "right")
    point_ends = np.searchsorted(refits.point_block, np.arange(len(refits.moments)), "right")
    point_starts = np.searchsorted(refits.point_block, np.arange(len(refits.moments)), "left")
    history_end = log.rows_before(points.user, points.time)
    history_start = log.user_start[points.user]
    learned = 0
    with ThreadPoolExecutor(max(len(learners), 1)) as pool:
        for block, moment in enumerate(refits.moments):
            if point_ends[block] == point_starts[block]:
                continue
            known_items = items.known_before(int(moment))
            known_users = users.known_before(int(moment))
            new_rows = np.sort(by_block[learned : ends[block]])
            learned = int(ends[block])
            futures = [pool.submit(f, new_rows, known_items, known_users) for f in learners]
            for future in futures:
                future.result()
            if before is not None:
                before(int(moment))
            size = int(min(_LARGEST_CHUNK, max(16, _CELLS // max(1, known_items))))
            rows = np.arange(point_starts[block], point_ends[block], dtype=np.int64)
            parts = [rows[i : i + size] for i in range(0, len(rows), size)]
            chunks = [(part, history_start[part], history_end[part]) for part in parts]
            per_task = 1
            if executor.remote:
                per_task = -(-len(chunks) // (_TASKS_PER_WORKER * executor.workers))
            tasks = [chunks[i : i + per_task] for i in range(0, len(chunks), per_task)]
            state = _Block(score, log, known_items, size, executor.remote)
            for task, results in zip(tasks, executor.map(_score_chunks, state, tasks)):
                for (part, _, _), result in zip(task, results):
                    collect(part, result)


@dataclass(frozen=True)
class _Block:
    """State for scoring the requests between two refits."""

    score: ChunkScorer
    log: Events
    items: int
    size: int
    remote: bool


def _score_chunks(block: _Block, chunks: list[ChunkRows]) -> list[ChunkResult]:
    with one_blas_thread() if block.remote else nullcontext():
        return [
            block.score(part, Chunk(block.log, start, end, block.items, block.size))
            for part, start, end in chunks
        ]
