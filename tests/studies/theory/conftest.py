from __future__ import annotations

import pytest
import torch

from goalrank.studies.theory import Population, make_population
from goalrank.studies.theory.settings import tiny_world

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def population() -> Population:
    """3 requests of the tiny world, 120 lists each."""
    return make_population(tiny_world(), 3, temperature=0.1, seed=0)
