"""Processes of one thread each that run independent jobs side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

ParallelMap = Callable[..., Iterable[Any]]
"""A function like the built-in ``map``: results in the order of the arguments."""


@contextmanager
def process_map(jobs: int) -> Iterator[ParallelMap]:
    """Give the built-in ``map`` for one job, else one over as many fresh processes.

    This process and the others keep to one thread: the nets are so small that two threads take
    twice the processor's time of one, and another order of summation leads the many steps of
    L-BFGS to other optima. Results therefore do not depend on ``jobs``.

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
            with ProcessPoolExecutor(
                jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
            ) as pool:
                yield pool.map
    finally:
        torch.set_num_threads(threads)
