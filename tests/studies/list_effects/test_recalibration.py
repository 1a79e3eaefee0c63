"""Levels of slots: planted shifts are found, and a model that knows no slots gets none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from goalrank.studies.list_effects.recalibration import fit_recalibration


@pytest.fixture(scope="module")
def answers():
    """20,000 lists of three; the truth is 1.5 times the model's logits, and a shift by slot."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (20_000, 3))
    truth = expit(1.5 * logits + np.array([0.8, 0.0, -0.8]))
    return expit(logits), (rng.random(truth.shape) < truth).astype(float), truth


def test_planted_levels_are_found(answers):
    predicted, feedback, truth = answers
    found = fit_recalibration(predicted, feedback, 3, by_slot=True)
    assert found.scale == pytest.approx(1.5, abs=0.06)
    assert found.shift == pytest.approx([0.8, 0.0, -0.8], abs=0.08)
    assert np.abs(found(predicted) - truth).mean() < 0.01


def test_one_shift_for_all_where_slots_are_not_known(answers):
    predicted, feedback, _ = answers
    found = fit_recalibration(predicted, feedback, 3, by_slot=False)
    assert found.shift == pytest.approx(np.repeat(found.shift[0], 3))
    assert found(predicted).mean() == pytest.approx(feedback.mean(), abs=0.002)


def test_empty_slots_and_longer_lists(answers):
    predicted, feedback, _ = answers
    short, known = predicted[:, :2].copy(), feedback[:, :2].copy()
    short[::3, 1] = known[::3, 1] = np.nan
    found = fit_recalibration(short, known, 3, by_slot=True)
    assert found.shift[2] == 0
    assert found.shift[:2] == pytest.approx([0.8, 0.0], abs=0.1)
    wide = np.full((4, 3), 0.5)
    wide[0, 2] = np.nan
    assert np.isnan(found(wide)).sum() == 1
