"""Walks through the refits and scores each block's requests in chunks, by an engine."""

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

__all__ = ["Answer", "Learner", "one_blas_thread", "walk", "worker_count"]

_CELLS = 8_000_000  # scores held at once by a thread and channel: bounds the memory
_MOST = 256  # small blocks stay in the cache

Learner = Callable[[Longs, int, int], None]
Answer = dict[str, NDArray[Any]]
Work = Callable[[Longs, Chunk], Answer]
Keep = Callable[[Longs, Answer], None]
Piece = tuple[Longs, Longs, Longs]  # rows of points, start and end of their histories
_TASKS = 4  # tasks a worker and block of a remote engine: it is told of each at a cost


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
    points: RequestPoints,
    refits: Refits,
    *,
    users: Codes,
    items: Codes,
    learners: Sequence[Learner],
    work: Work,
    keep: Keep,
    engine: Executor,
    before: Callable[[int], None] | None = None,
) -> None:
    """Refit, then serve, block after block.

    Args:
        log: consumed items, sorted by user and time.
        points: requests by time.
        refits: the plan; requests before the first refit are left out.
        users, items: codes.
        learners: called with (new rows, items known, users known) at each refit that serves
            requests; skipped refits' rows come with the next one.
        work: called with (rows of ``points``, chunk), in parallel for a block, maybe elsewhere:
            it changes nothing and depends on the two alone.
        keep: called here with (rows of ``points``, what ``work`` said of them).
        engine: where ``work`` runs.
        before: called with each refit's moment before its requests are served.
    """
    by_block = np.argsort(refits.row_block, kind="stable")
    ends = np.searchsorted(refits.row_block[by_block], np.arange(len(refits.moments)), "right")
    point_ends = np.searchsorted(refits.point_block, np.arange(len(refits.moments)), "right")
    point_starts = np.searchsorted(refits.point_block, np.arange(len(refits.moments)), "left")
    history_end = log.rows_before(points.user, points.time)
    history_start = log.user_start[points.user]
    learnt = 0
    with ThreadPoolExecutor(max(len(learners), 1)) as pool:
        for block, moment in enumerate(refits.moments):
            if point_ends[block] == point_starts[block]:
                continue
            known, people = items.known_before(int(moment)), users.known_before(int(moment))
            fresh = np.sort(by_block[learnt : ends[block]])
            learnt = int(ends[block])
            waits = [pool.submit(learn, fresh, known, people) for learn in learners]
            for wait in waits:
                wait.result()
            if before is not None:
                before(int(moment))
            size = int(min(_MOST, max(16, _CELLS // max(1, known))))
            rows = np.arange(point_starts[block], point_ends[block], dtype=np.int64)
            parts = [rows[i : i + size] for i in range(0, len(rows), size)]
            pieces = [(part, history_start[part], history_end[part]) for part in parts]
            per = -(-len(pieces) // (_TASKS * engine.workers)) if engine.remote else 1
            tasks = [pieces[i : i + per] for i in range(0, len(pieces), per)]
            state = _Block(work, log, known, size, engine.remote)
            for task, answers in zip(tasks, engine.map(_serve, state, tasks)):
                for (part, _, _), answer in zip(task, answers):
                    keep(part, answer)


@dataclass(frozen=True)
class _Block:
    """What serving a block's requests needs."""

    work: Work
    log: Events
    items: int
    size: int
    remote: bool


def _serve(block: _Block, pieces: list[Piece]) -> list[Answer]:
    with one_blas_thread() if block.remote else nullcontext():
        return [
            block.work(part, Chunk(block.log, start, end, block.items, block.size))
            for part, start, end in pieces
        ]
