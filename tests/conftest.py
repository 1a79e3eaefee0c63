"""For all tests: one global seed, so that no outcome hangs on the order in which tests ran; and what
was skipped is said by name, so that a missing browser is not overlooked.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import settings

settings.register_profile("goalrank", deadline=None)  # a busy machine breaks no law
settings.load_profile("goalrank")


@pytest.fixture(autouse=True, scope="module")
def _seed_module() -> None:
    """What a module's fixtures draw from torch's global stream is the same whatever ran before."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _seed(_seed_module: None) -> None:
    """What a test draws from torch's global stream is the same whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """A server or a library that a test starts in this process changes loggers for no later test."""
    loggers = [logging.getLogger(name) for name in ("goalrank", "goalrank.access", "uvicorn")]
    old = [(each.handlers, each.propagate, each.level) for each in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, old, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
    for name, each in logging.root.manager.loggerDict.items():
        if name.startswith("goalrank") and isinstance(each, logging.Logger):
            each.disabled = False


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
