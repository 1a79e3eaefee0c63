"""Memory that an import may use, what it needs, and how many rows it takes at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from goalrank.errors import ConfigError
from goalrank.logs.spill.folder import CHUNK

__all__ = ["Needs", "check_memory", "memory_limit", "rows_at_once"]

_SHARE = 0.8  # of what is available, where no limit is given
_BASE = 350_000_000  # libraries and code
_ROW = 300  # bytes of work on a row of a chunk: records, their order, and copies of both
_LEAST = 1 << 16  # rows at once at least


@dataclass(frozen=True)
class Needs:
    """Bytes that an import needs, beside what it can leave on the disk.

    Attributes:
        what: the step.
        parts: what needs memory at the same time → bytes.
    """

    what: str
    parts: dict[str, float]

    @property
    def total(self) -> float:
        """All of them, and what the program takes by itself."""
        return _BASE + _ROW * _LEAST + sum(self.parts.values())


def memory_limit(given: float | None) -> float:
    """Bytes that an import may use.

    Args:
        given: 10^9 bytes; None takes four fifths of what the system says is available now.
    """
    if given is not None:
        return given * 1e9
    return _SHARE * min(_available(), default=float("inf"))


def rows_at_once(limit: float) -> int:
    """Rows of a chunk: as many as a tenth of the memory holds, within bounds."""
    return int(min(CHUNK, max(_LEAST, limit / 10 / _ROW)))


def check_memory(needs: Needs, limit: float) -> None:
    """Refuse work that needs more memory than it may use.

    Raises:
        ConfigError: it does; what it needs is said.
    """
    if needs.total <= limit:
        return
    parts = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in needs.parts.items())
    raise ConfigError(
        f"{needs.what} needs about {needs.total / 1e9:.2f} GB of memory ({parts}, the program "
        f"itself {_BASE / 1e9:.2f}), but the import may use {limit / 1e9:.2f} GB; remedy: a machine "
        f"with more memory, a higher limit, fewer candidates or factors, or quotas without "
        f"'factorisation' (options: memory_gb, candidates, factors, quotas)"
    )


def _available() -> Iterator[float]:
    """Bytes that the system, the limits of the process and its control group leave."""
    status = _fields(Path("/proc/self/status"))
    free = _fields(Path("/proc/meminfo")).get("MemAvailable")
    if free is not None:
        yield free
    elif hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        yield float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    yield from _process_limits(status)
    group = Path("/sys/fs/cgroup")
    if (group / "memory.max").is_file() and (group / "memory.current").is_file():
        most = (group / "memory.max").read_text().strip()
        if most.isdigit():
            yield int(most) - int((group / "memory.current").read_text())


def _process_limits(status: dict[str, float]) -> Iterator[float]:
    try:
        import resource
    except ImportError:  # not on this system
        return
    for kind, used in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY and used in status:
            # What the program takes by itself is in use already.
            yield max(limit - status[used], 0) + _BASE


def _fields(path: Path) -> dict[str, float]:
    """Sizes in a file of the system: name → bytes; empty where it is not there."""
    if not path.is_file():
        return {}
    words = (line.split() for line in path.read_text().splitlines())
    return {w[0].rstrip(":"): float(w[1]) * 1024 for w in words if w[-1:] == ["kB"]}
