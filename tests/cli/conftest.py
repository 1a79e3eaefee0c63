"""One imported data set and one trained bundle for all tests of the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from goalrank.cli import app
from tests.api.kit import TINY
from tests.bundles.kit import make_bundle
from tests.tables import make_table

Goalrank = Callable[..., Result]


@pytest.fixture(scope="session")
def goalrank() -> Goalrank:
    """Runs the command line within this process."""
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """A folder as `goalrank data import` writes it."""
    folder = tmp_path_factory.mktemp("cli") / "data"
    for seed, part in enumerate(("train", "validation", "test")):
        make_table(60, seed=seed, warning="small data").write(folder / f"{part}.parquet")
    return folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory, data) -> Path:
    """An untrained bundle that knows the data's items."""
    return make_bundle(reward=False).save(tmp_path_factory.mktemp("cli") / "bundle")


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """--set options for the shortest training."""
    return [part for setting in TINY for part in ("--set", setting)]
