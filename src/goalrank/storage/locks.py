"""Claims that the operating system drops with their process, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Claim:
    """An exclusive lock on a file; a killed process holds none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def take(self, *, wait: bool = False) -> bool:
        """Take it; False where another process has it and `wait` is off."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        return True

    def drop(self) -> None:
        """Let it go; the file stays, for a removed one could be locked twice."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Wait for a claim and hold it."""
    claim = Claim(path)
    claim.take(wait=True)
    try:
        yield
    finally:
        claim.drop()
