"""Work in steps that wait for other threads: written once, driven by a thread or an event loop.

The work is a generator. It yields a future and the seconds that it will wait for it at most, goes
on once the future is done or the time is up, and returns its result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from concurrent.futures import Future, wait
from typing import Any, TypeVar

T = TypeVar("T")
PendingWork = Generator[tuple[Future[Any], float | None], None, T]


def run_blocking(steps: PendingWork[T]) -> T:
    """The work's result; this thread waits."""
    try:
        while True:
            future, seconds = next(steps)
            wait([future], seconds)
    except StopIteration as end:
        result: T = end.value
        return result


async def wait_aside(steps: PendingWork[T]) -> T:
    """The work's result; the event loop goes on meanwhile. Cancelled, the work ends where it is."""
    try:
        while True:
            future, seconds = next(steps)
            await _over(future, seconds)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


async def _over(future: Future[Any], seconds: float | None) -> None:
    """Until the future is done or the time is up; what it holds is left alone."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    timer = None if seconds is None else loop.call_later(seconds, _wake, done)
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(_wake, done))
    try:
        await done
    finally:
        if timer is not None:
            timer.cancel()


def _wake(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
