"""Times of the steps of ranking (encode, decode), recorded where a caller asks for them.

Requests are ranked together in one thread, so each recorded step belongs to every request of that
batch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import time_ns

TimedStep = tuple[str, int, int]  # name of the step, its start and its end in ns since 1970


class _Recording(threading.local):
    """Steps recorded in the current thread; None while nothing is recorded."""

    steps: list[TimedStep] | None = None


_CURRENT = _Recording()


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Record how long the block takes, if this thread is inside `record_times`.

    Args:
        name: of the step, e.g. "encode".
    """
    steps = _CURRENT.steps
    if steps is None:
        yield
        return
    start = time_ns()
    try:
        yield
    finally:
        steps.append((name, start, time_ns()))


@contextmanager
def record_times(enabled: bool = True) -> Iterator[list[TimedStep]]:
    """Record the steps that this thread times inside the block.

    Args:
        enabled: False records nothing.

    Yields:
        The list to which each finished step is appended.
    """
    steps: list[TimedStep] = []
    if enabled:
        _CURRENT.steps = steps
    try:
        yield steps
    finally:
        _CURRENT.steps = None
