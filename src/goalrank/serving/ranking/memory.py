"""Memory of large requests, given back to the operating system."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """`malloc_trim` of the C library; None where it has none (macOS, Windows, musl)."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def release_memory() -> None:
    """Give memory that is free inside the process back to the operating system."""
    trim = _trim()
    if trim is not None:
        trim(0)
