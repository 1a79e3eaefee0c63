"""Locks between processes that the operating system drops with their process, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_POLL = 0.02  # seconds between two tries while waiting


class Claim:
    """An exclusive lock on a file; a killed process holds none.

    Two claims on one file exclude each other within one process too.

    Args:
        path: the file; it stays when the claim is dropped, for a removed one could be locked twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path, thread_local=False)

    def take(self, *, wait: bool = False) -> bool:
        """Take it; False where another has it and `wait` is off."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=-1 if wait else 0, poll_interval=_POLL)
        except Timeout:
            return False
        return True

    def drop(self) -> None:
        """Give it up; nothing happens where it is not held."""
        self._lock.release(force=True)


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Wait for a claim and hold it."""
    claim = Claim(path)
    claim.take(wait=True)
    try:
        yield
    finally:
        claim.drop()
