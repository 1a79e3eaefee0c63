"""Walks through the refits and scores each block's requests in chunks, on several threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.arrays import Codes, Events, Longs
from goalrank.logs.points import Points
from goalrank.logs.retrieval.base import Chunk
from goalrank.logs.retrieval.refits import Refits

__all__ = ["Learner", "one_blas_thread", "walk", "worker_count"]

_CELLS = 8_000_000  # scores held at once by a thread and channel: bounds the memory
_MOST = 256  # small blocks stay in the cache

Learner = Callable[[Longs, int, int], None]
Work = Callable[[Longs, Chunk], None]


def worker_count(threads: int) -> int:
    """``threads``, or all cores for 0."""
    return threads or os.cpu_count() or 1


def one_blas_thread() -> AbstractContextManager[object]:
    """Inside, BLAS runs on one thread: ours are parallel already, and results are repeatable."""
    try:
        import scipy.linalg  # noqa: F401  its BLAS must be loaded before it can be limited
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[object] = threadpool_limits(1, "blas")
    return limits


def walk(
    log: Events,
    points: Points,
    refits: Refits,
    *,
    users: Codes,
    items: Codes,
    learners: Sequence[Learner],
    work: Work,
    threads: int,
) -> None:
    """Refit, then serve, block after block.

    Args:
        log: consumed items, sorted by user and time.
        points: requests by time.
        refits: the plan; requests before the first refit are left out.
        users, items: codes.
        learners: called with (new rows, items known, users known) at each refit that serves
            requests; skipped refits' rows come with the next one.
        work: called with (rows of ``points``, chunk); calls of a block run in parallel, so it may
            only write to its own rows.
        threads: worker threads, 0 for all cores.
    """
    by_block = np.argsort(refits.row_block, kind="stable")
    ends = np.searchsorted(refits.row_block[by_block], np.arange(len(refits.moments)), "right")
    point_ends = np.searchsorted(refits.point_block, np.arange(len(refits.moments)), "right")
    point_starts = np.searchsorted(refits.point_block, np.arange(len(refits.moments)), "left")
    history_end = log.rows_before(points.user, points.time)
    history_start = log.user_start[points.user]
    learnt = 0
    with ThreadPoolExecutor(worker_count(threads)) as pool:
        for block, moment in enumerate(refits.moments):
            if point_ends[block] == point_starts[block]:
                continue
            known, people = items.known_before(int(moment)), users.known_before(int(moment))
            fresh = np.sort(by_block[learnt : ends[block]])
            learnt = int(ends[block])
            waits = [pool.submit(learn, fresh, known, people) for learn in learners]
            for wait in waits:
                wait.result()
            size = int(min(_MOST, max(16, _CELLS // max(1, known))))
            rows = np.arange(point_starts[block], point_ends[block], dtype=np.int64)
            parts = [rows[i : i + size] for i in range(0, len(rows), size)]

            def serve(part: NDArray[np.int64], known: int = known, size: int = size) -> None:
                work(part, Chunk(log, history_start[part], history_end[part], known, size))

            list(pool.map(serve, parts))
