"""One finished run for all tests of tables and ledgers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from goalrank.studies.arena.run_cell import run_cell
from goalrank.studies.arena.runner import store_suite
from goalrank.studies.common import Suite, plan_cells
from tests.studies.arena.kit import DIVERGES, IMPOSSIBLE, ROWS, make_suite, write_data


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="session")
def finished(data, tmp_path_factory) -> tuple[Suite, Path]:
    """Every row, a cell that cannot be and one that diverges; run in this process."""
    torch.set_num_threads(1)
    suite = make_suite(data, [*ROWS, IMPOSSIBLE, DIVERGES])
    folder = tmp_path_factory.mktemp("whole")
    store_suite(suite, folder)
    for cell in plan_cells(suite):
        run_cell(suite, cell, folder, "cpu")
    return suite, folder
