"""Memory that the C library keeps for later instead of giving it back to the system."""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt, as in malloc.h
_KEPT = 1 << 30  # bytes
_LARGEST = 32 << 20  # bytes; mallopt refuses more


def keep_freed_memory(most: int = _KEPT) -> bool:
    """Let glibc keep freed memory for the rest of the process.

    Each training step needs the memory that the step before it freed. Given back to the system in
    between, every page of it costs a fault: 4,000 of them, and an eighth of the time of a step of
    PRM (64 requests, 50 candidates, width 64).

    Args:
        most: bytes at the end of the heap that are kept; 1 GiB.

    Returns:
        Whether it took effect: not where another C library allocates, nor where the environment
        sets the thresholds itself.
    """
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    if any(name in os.environ for name in names) or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, most))
