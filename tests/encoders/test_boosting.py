"""Boosted trees of LightGBM."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalrank.encoders import Trees, fit_trees
from goalrank.encoders.boosting import _parts


@given(st.lists(st.integers(1, 45_000), max_size=6))
def test_groups_beyond_the_limit_are_cut_into_parts(sizes: list[int]) -> None:
    groups = np.array(sizes, np.int64)
    parts = _parts(groups)
    assert (parts <= 10_000).all()
    assert np.isin(np.cumsum(groups), np.cumsum(parts)).all()  # every group ends where a part does
    assert len(parts) == sum(-(-size // 10_000) for size in sizes)
    if (groups <= 10_000).all():
        np.testing.assert_array_equal(parts, groups)


@pytest.mark.parametrize("objective", ["lambdarank", "rank_xendcg"])
def test_a_group_may_have_more_rows_than_lightgbm_takes(objective: str) -> None:
    pytest.importorskip("lightgbm", reason="extra trees: lightgbm")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10_001, 2))
    table = x, (x[:, 0] > 2).astype(np.int32), np.array([10_001])
    settings = {"objective": objective, "deterministic": True, "force_row_wise": True}
    text = fit_trees(table, settings, 5, names=["a", "b"], validation=table, patience=5)
    scores = Trees(text).scores(x)
    assert scores[x[:, 0] > 2].mean() > scores[x[:, 0] < 2].mean()
