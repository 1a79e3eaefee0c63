"""The sample-ratio alarm: rare where the sizes are right, however often it is looked at."""

from __future__ import annotations

import numpy as np
import pytest

from goalrank.errors import ConfigError
from goalrank.experiments import Experiments
from goalrank.experiments.analysis import SRM_ALARM
from goalrank.experiments.sequential import sample_ratio_p_value


def daily(share: float, seed: int, days: int = 30, runs: int = 2_000) -> float:
    """Part of experiments that alarm on some day, with 500 new units per day."""
    rng = np.random.default_rng(seed)
    first = rng.binomial(500, share, (runs, days)).cumsum(1)
    total = 500 * np.arange(1, days + 1)
    alarms = [
        any(
            sample_ratio_p_value([int(a), int(n - a)], [1, 1]) < SRM_ALARM
            for a, n in zip(row, total)
        )
        for row in first
    ]
    return float(np.mean(alarms))


def test_looked_at_every_day_it_keeps_its_level():
    rates = [daily(0.5, seed) for seed in (0, 1)]
    print(f"false alarms over 30 daily looks: {rates} (level {SRM_ALARM})")
    assert max(rates) <= 3 * SRM_ALARM


def test_it_finds_sizes_that_are_wrong():
    assert daily(0.53, 0, runs=200) > 0.95


def test_it_needs_no_even_split():
    right = sample_ratio_p_value([7_000, 2_000, 1_000], [0.7, 0.2, 0.1])
    wrong = sample_ratio_p_value([6_500, 2_500, 1_000], [0.7, 0.2, 0.1])
    assert right == 1.0
    assert wrong < 1e-6
    assert sample_ratio_p_value([0, 0], [1, 1]) == 1.0


def test_no_experiment_is_named_as_the_pages_label():
    variants = [{"name": "a", "weight": 1}, {"name": "b", "weight": 1}]
    given = {"name": "page", "salt": "s", "variants": variants}
    with pytest.raises((ValueError, ConfigError), match="'page' labels"):
        Experiments.model_validate({"experiment": [given]})
