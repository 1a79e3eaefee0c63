"""A planted law is found again; where there is none, none is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from goalrank.errors import ConfigError, InfeasibleError
from goalrank.studies.scaling.law import fit_law, frontier

PLANTED = {"E": 0.3, "A": 20.0, "alpha": 0.45, "B": 8.0, "beta": 0.35}


def grid(noise: float, seeds: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    p, d, _ = (
        x.ravel()
        for x in np.meshgrid([1e3, 1e4, 1e5, 1e6, 1e7], [1e3, 1e4, 1e5, 1e6], np.arange(seeds))
    )
    loss = 0.3 + 20.0 * p**-0.45 + 8.0 * d**-0.35
    return p, d, loss + noise * np.random.default_rng(seed).normal(size=len(p))


def test_a_planted_law_is_recovered_exactly_without_noise():
    law = fit_law(*grid(0.0), bootstrap=20)
    assert law.holds, law.reason
    for name, value in PLANTED.items():
        assert law.estimates[name].value == pytest.approx(value, rel=1e-3)
    assert law.r2 == pytest.approx(1.0)


def test_intervals_cover_the_planted_law_as_often_as_they_should():
    laws = [fit_law(*grid(0.01, seed=seed), bootstrap=60) for seed in range(20)]
    assert all(law.holds for law in laws)
    for name, value in PLANTED.items():
        covered = [law.estimates[name].low <= value <= law.estimates[name].high for law in laws]
        assert np.mean(covered) >= 0.7, name
    assert laws[0].estimates["alpha"].high - laws[0].estimates["alpha"].low < 0.2


def test_no_law_in_data_is_said_and_not_predicted():
    p, d, _ = grid(0.0)
    noise = np.random.default_rng(1).normal(size=len(p))
    law = fit_law(p, d, 0.5 + 20 * p**-0.45 + 0.02 * noise, bootstrap=40)
    assert not law.holds
    assert law.reason
    with pytest.raises(InfeasibleError, match="no law"):
        law.predict([1e4], [1e4])
    assert str(frontier(law, p, d, p * d).reason).startswith("no law")


def test_pure_noise_is_no_law():
    p, d, _ = grid(0.0)
    law = fit_law(p, d, np.random.default_rng(2).uniform(1, 2, len(p)), bootstrap=40)
    assert not law.holds


def test_loss_that_rises_with_parameters_is_no_law():
    p, d, _ = grid(0.0)
    assert not fit_law(p, d, 0.1 * np.log(p) + 8 * d**-0.35, bootstrap=20).holds


def test_the_frontier_is_the_least_loss_of_its_budget():
    p, d, loss = grid(0.0)
    law = fit_law(p, d, loss, bootstrap=20)
    found = frontier(law, p, d, 6.0 * p * d)
    assert found.reason is None
    assert found.cost is not None
    assert found.exponents is not None
    c, x, y = found.cost
    assert (c, x, y) == pytest.approx((6.0, 1.0, 1.0), rel=1e-6)
    assert sum(found.exponents) == pytest.approx(1.0)
    row = found.rows[3]
    others = np.geomspace(1e2, 1e9, 20_001)
    least = law.predict(others, row["flops"] / (6.0 * others)).min()
    assert row["loss"] == pytest.approx(float(least), rel=1e-6)


def test_fixed_steps_have_no_frontier():
    p, d, loss = grid(0.0)
    law = fit_law(p, d, loss, bootstrap=20)
    assert "epochs" in str(frontier(law, p, d, 6.0 * p).reason)


def test_too_small_grids_are_refused():
    with pytest.raises(InfeasibleError, match="2 numbers of parameters"):
        fit_law([1, 2] * 4, [1, 2, 3, 4] * 2, np.ones(8), bootstrap=20)
    with pytest.raises(ConfigError, match="bootstrap=1"):
        fit_law(*grid(0.0), bootstrap=1)
    p, d, loss = grid(0.0)
    with pytest.raises(ConfigError, match="finite"):
        fit_law(p, d, loss * np.nan)
