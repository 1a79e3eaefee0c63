"""Stores that tests run on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving.databases import Postgres, missing_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL; tests that need it are skipped, with the reason, where it cannot run."""
    why = missing_postgres()
    if why is not None:
        pytest.skip(why)
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request, tmp_path) -> str:
    """An empty store of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return request.getfixturevalue("postgres").new()
