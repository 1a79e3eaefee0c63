"""Processes of one thread each that run independent jobs side by side."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

ParallelMap = Callable[..., Iterable[Any]]
"""A function like the built-in ``map``: results in the order of the arguments."""


@contextmanager
def process_map(jobs: int) -> Iterator[ParallelMap]:
    """Give the built-in ``map`` for one job, else one over as many fresh processes.

    This process and the others keep to one thread: the nets are so small that two threads take
    twice the processor's time of one, and another order of summation leads the many steps of
    L-BFGS to other optima. Results therefore do not depend on ``jobs``.

    The other processes end with this one, however it ends, and in the middle of their work where an
    error or Ctrl-C ends the block.

    Args:
        jobs: at least 1.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if jobs == 1:
            yield map
        else:
            with _pool(jobs) as pool:
                yield pool.map
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    context = get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(theirs,))
    try:
        yield pool
    except BaseException:
        ours.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        ours.close()
        theirs.close()


def _begin(parent: Connection) -> None:
    """Set a worker up: one thread, deaf to the keyboard, and gone with its parent."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says what to do
    Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Connection) -> None:
    """End this process when the other end of a pipe is closed, by its owner or by its death."""
    parent.poll(None)  # nothing is ever sent
    os._exit(1)
