"""Work in steps: the same result, errors and waits, whoever drives it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from goalrank.serving.ranking.pending_work import PendingWork, run_async, run_blocking

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """On a loop of its own, in a thread of its own: the browser's tests keep one running in theirs."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


DRIVERS = [run_blocking, lambda steps: run(run_async(steps))]


def later(value: object, seconds: float = 0.02) -> Future[object]:
    """A future that another thread fulfils: with a value, or with an error."""
    future: Future[object] = Future()
    fulfil = future.set_exception if isinstance(value, Exception) else future.set_result
    threading.Timer(seconds, fulfil, [value]).start()
    return future


@pytest.mark.parametrize("drive", DRIVERS)
def test_goes_on_once_the_future_is_done(drive):
    def work() -> PendingWork[list[object]]:
        out: list[object] = []
        for future in (later(1), later(2, 0.0), later(KeyError("no"))):
            yield future, 5.0
            out.append(future.exception() or future.result())
        return out

    began = time.monotonic()
    one, two, error = drive(work())
    assert (one, two) == (1, 2)
    assert isinstance(error, KeyError)
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize("drive", DRIVERS)
def test_goes_on_once_the_time_is_up(drive):
    def work() -> PendingWork[bool]:
        never: Future[None] = Future()
        yield never, 0.05
        yield never, 0.0
        return never.done()

    began = time.monotonic()
    assert drive(work()) is False
    assert 0.05 <= time.monotonic() - began < 2.0


@pytest.mark.parametrize("drive", DRIVERS)
def test_errors_of_the_work_come_out(drive):
    def work() -> PendingWork[None]:
        yield later(None), None
        raise LookupError("its own")

    with pytest.raises(LookupError, match="its own"):
        drive(work())


def test_many_wait_at_once_without_a_thread_each():
    def work() -> PendingWork[int]:
        yield later(0, 0.2), 5.0
        return threading.get_ident()

    async def all_at_once() -> tuple[int, list[int]]:
        found = await asyncio.gather(*(run_async(work()) for _ in range(20)))
        return threading.get_ident(), found

    began = time.monotonic()
    mine, threads = run(all_at_once())
    assert set(threads) == {mine}
    assert time.monotonic() - began < 2.0


def test_cancelled_work_ends_where_it_is():
    ended = []

    def work() -> PendingWork[None]:
        try:
            yield Future(), None
        finally:
            ended.append(True)

    async def cancelled() -> None:
        task = asyncio.create_task(run_async(work()))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended

    run(cancelled())
