"""Retries of operations that fail at times: stores that time out, connections that break."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from goalrank.errors import ExecutorError

T = TypeVar("T")
RETRIES = 4  # further tries after the first; waits of 0.5, 1, 2 and 4 seconds
_PASSING = {
    errno.EAGAIN, errno.EBUSY, errno.EHOSTUNREACH, errno.EINTR, errno.EIO, errno.ENETDOWN,
    errno.ENETUNREACH, errno.EPIPE, errno.ESTALE, errno.ETIMEDOUT,
}  # fmt: skip
_CLIENTS = {"aiohttp", "azure", "botocore", "google", "requests", "urllib3"}


def transient(error: BaseException) -> bool:
    """Whether an error of a store may be gone at the next try.

    Timeouts, broken connections and input/output errors may; a file that is not there, or may not
    be read, stays so. Errors of the stores' own client libraries count as theirs: most are
    timeouts and refusals under load.
    """
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError):
        return error.errno in _PASSING
    return type(error).__module__.partition(".")[0] in _CLIENTS


def with_retries(
    work: Callable[[], T], what: str, *, retries: int = RETRIES, first_wait: float = 0.5
) -> T:
    """Run `work`, again after longer and longer waits while it fails with transient errors.

    Args:
        work: safe to run again from its beginning.
        what: named in the error, e.g. "reading 's3://…'".
        retries: tries after the first.
        first_wait: seconds before the second try; each further wait is twice as long.

    Raises:
        ExecutorError: every try failed; other errors of `work` pass through at once.
    """
    wait = first_wait
    for left in range(retries, -1, -1):
        try:
            return work()
        except Exception as error:
            if not transient(error):
                raise
            if not left:
                raise ExecutorError(
                    f"{what} failed {retries + 1} times, the last time by "
                    f"{type(error).__name__}: {error}; remedy: see whether the store can be "
                    f"reached, then run the same command again"
                ) from error
        time.sleep(wait)
        wait *= 2
    raise AssertionError("unreachable")
