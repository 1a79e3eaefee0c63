"""One Ray cluster of two workers for all tests of a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from goalrank.compute import Engine, open_engine


@pytest.fixture(scope="session")
def cluster() -> Iterator[Engine]:
    with open_engine("ray", workers=2) as engine:
        yield engine
