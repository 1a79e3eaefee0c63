"""Work that waits for other threads, written once and run by a thread or by an event loop.

The work is a generator. It yields a future and how many seconds it waits for it at most, continues
when the future is done or the time is over, and returns its result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from concurrent.futures import Future, wait
from typing import Any, TypeVar

T = TypeVar("T")
PendingWork = Generator[tuple[Future[Any], float | None], None, T]


def run_blocking(work: PendingWork[T]) -> T:
    """Run work in this thread, which waits.

    Args:
        work: the generator.

    Returns:
        The result of the work.
    """
    try:
        while True:
            future, seconds = next(work)
            if not future.done():
                wait([future], seconds)
    except StopIteration as end:
        result: T = end.value
        return result


async def run_async(work: PendingWork[T]) -> T:
    """Run work while the event loop continues; if this is cancelled, the work stops where it is.

    Args:
        work: the generator.

    Returns:
        The result of the work.
    """
    try:
        while True:
            future, seconds = next(work)
            if not future.done():
                await _wait_for(future, seconds)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        work.close()


async def _wait_for(future: Future[Any], seconds: float | None) -> None:
    """Wait until the future is done or the time is over; its result or error is not read."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    timer = None if seconds is None else loop.call_later(seconds, _set_done, done)
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(_set_done, done))
    try:
        await done
    finally:
        if timer is not None:
            timer.cancel()


def _set_done(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
