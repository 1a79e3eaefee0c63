"""How long the stages of ranking take, for whoever listens.

Requests are ranked together in a thread of their own: its stages belong to every one of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import time_ns

Mark = tuple[str, int, int]  # a stage's name, its start and its end in ns since 1970


class _Listening(threading.local):
    marks: list[Mark] | None = None


_HERE = _Listening()


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Note how long a stage takes, if this thread is `listening`."""
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
def listening(wanted: bool = True) -> Iterator[list[Mark]]:
    """The stages of this thread, gathered while it lasts; none unless wanted."""
    marks: list[Mark] = []
    if wanted:
        _HERE.marks = marks
    try:
        yield marks
    finally:
        _HERE.marks = None
