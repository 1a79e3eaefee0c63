"""Functions that engines can send elsewhere, and a store that fails as told."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from goalrank.errors import DataError, MissingExtraError, ValidationError


def scaled(shared: int, part: int) -> int:
    return shared * part


def place(_: object, part: int) -> int:
    return os.getpid()


def dies_once(folder: Path, part: int) -> tuple[int, int]:
    """The first time that part 3 is worked on, its process is killed."""
    mark = folder / f"tried-{part}"
    tries = len(list(folder.glob(f"tried-{part}-*"))) + 1
    Path(f"{mark}-{tries}").touch()
    if part == 3 and tries == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return part, tries


def always_dies(_: object, part: int) -> int:
    if part == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return part


def refuses(_: object, part: int) -> int:
    if part == 2:
        raise ValidationError(f"part {part} breaks a rule", faults=["a", "b"])
    if part == 3:
        raise MissingExtraError("part 3", "ray")
    if part == 4:
        raise KeyError("a fault of ours")
    if part == 5:
        raise DataError("plain")
    return part


class FlakyFileSystem(LocalFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """Local files whose next `fail` openings time out."""

    protocol = "flaky"
    cachable = False
    fail = 0
    tries = 0

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        FlakyFileSystem.tries += 1
        if FlakyFileSystem.fail > 0:
            FlakyFileSystem.fail -= 1
            raise TimeoutError("the store does not answer")
        return super()._open(path, mode, **kwargs)
