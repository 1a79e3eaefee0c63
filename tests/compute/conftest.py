"""One Ray cluster of two workers for all tests of a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from goalrank.compute import Executor, open_executor


@pytest.fixture(scope="session")
def cluster() -> Iterator[Executor]:
    with open_executor("ray", workers=2) as engine:
        yield engine
