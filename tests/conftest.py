"""For all tests: what was skipped is said by name, so that a missing browser is not overlooked."""

from __future__ import annotations

from collections import defaultdict
from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List skipped tests under the reason that each gave."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        where = report.longrepr
        reason = where[2] if isinstance(where, tuple) else str(where)
        reasons[reason.removeprefix("Skipped: ")].append(report.nodeid)
    if reasons:
        terminalreporter.section("skipped, by name")
    for reason, names in sorted(reasons.items()):
        terminalreporter.write_line(f"{len(names)} because {reason}")
        for name in sorted(names):
            terminalreporter.write_line(f"  {name}")
