"""How long the stages of ranking take, for whoever listens.

Requests are ranked together in a thread of their own: its stages belong to every one of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import time_ns

TimedStep = tuple[str, int, int]  # a stage's name, its start and its end in ns since 1970


class _Listening(threading.local):
    marks: list[TimedStep] | None = None


_HERE = _Listening()


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Note how long a stage takes, if this thread is `record_times`."""
    marks = _HERE.marks
    if marks is None:
        yield
        return
    start = time_ns()
    try:
        yield
    finally:
        marks.append((name, start, time_ns()))


@contextmanager
def record_times(wanted: bool = True) -> Iterator[list[TimedStep]]:
    """The stages of this thread, gathered while it lasts; none unless wanted."""
    marks: list[TimedStep] = []
    if wanted:
        _HERE.marks = marks
    try:
        yield marks
    finally:
        _HERE.marks = None
