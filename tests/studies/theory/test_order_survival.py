from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.errors import ConfigError
from goalrank.studies.theory import Population, order_survival, thin_by_gap
from goalrank.studies.theory.bounds.order_survival import draw_groups


def _study(population: Population, kind: Any) -> dict[str, object]:
    return order_survival(
        population, kind=kind, amplitude=0.1, thresholds=[0.0, 1.0, 2.0, 2.5], size=15, draws=40,
        bins=6, seed=0,
    )  # fmt: skip


@given(
    rewards=st.lists(st.integers(0, 30), min_size=1, max_size=12),
    sigma=st.sampled_from([0.0, 1.0, 2.5, 7.0]),
)
@settings(max_examples=60, deadline=None)
def test_thinning_is_the_greedy_walk_from_the_best(rewards: list[int], sigma: float) -> None:
    values = torch.tensor([rewards], dtype=torch.float64)
    kept = sorted(values[thin_by_gap(values, sigma)].tolist(), reverse=True)
    expected: list[float] = []
    for value in sorted(rewards, reverse=True):
        if not expected or expected[-1] - value > sigma:
            expected.append(float(value))
    assert kept == expected


@pytest.mark.parametrize("kind", ["noise", "popularity"])
def test_bounded_bias_never_breaks_a_gap_above_twice_its_size(
    population: Population, kind: str
) -> None:
    found = _study(population, kind)
    assert found["broken_above_2beta"] == 0
    assert 1.0 < found["widest_broken_gap"] <= 2.0  # type: ignore[operator]
    rows = found["by_threshold"]
    assert [row["share"] for row in rows[2:]] == [1.0, 1.0]  # type: ignore[index]
    assert [row["best_survives"] for row in rows[2:]] == [1.0, 1.0]  # type: ignore[index]
    assert rows[0]["share"] < rows[1]["share"] < 1.0  # type: ignore[index]
    assert rows[0]["coverage"] > rows[2]["coverage"]  # type: ignore[index]


def test_unbounded_bias_can_break_any_gap(population: Population) -> None:
    found = _study(population, "gaussian")
    assert found["broken_above_2beta"] > 0  # type: ignore[operator]


def test_small_gaps_are_near_a_coin_toss(population: Population) -> None:
    share = _study(population, "noise")["by_gap"]["share"]  # type: ignore[index]
    assert 0.4 < share[0] < 0.75
    assert share[-1] == 1.0


def test_random_groups_hold_distinct_lists(population: Population) -> None:
    groups = draw_groups(population, 120, 2, torch.Generator().manual_seed(0))
    assert (groups.sort(dim=2).values == torch.arange(120)).all()


def test_refusals(population: Population) -> None:
    with pytest.raises(ConfigError, match="sigma=-1"):
        thin_by_gap(torch.zeros(1, 3), -1)
    with pytest.raises(ConfigError, match="size=200"):
        draw_groups(population, 200, 1, torch.Generator())
