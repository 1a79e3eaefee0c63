"""Pairs of orders against a plain search, and planted changes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalrank.studies.list_effects import SwapPairs, find_swaps, fit_swaps

_LISTS = st.lists(
    st.tuples(st.permutations([0, 1, 2, 3]), st.integers(1, 4), st.integers(0, 1)),
    min_size=1,
    max_size=25,
)


def _exchanged(a: tuple[int, ...], b: tuple[int, ...]) -> int | None:
    """The upper slot of the one exchange that makes b of a."""
    for t in range(len(a) - 1):
        swapped = (*a[:t], a[t + 1], a[t], *a[t + 2 :])
        if swapped == b and a != b:
            return t
    return None


@given(_LISTS, st.booleans())
def test_pairs_are_those_of_a_plain_search(drawn, grouped):
    lists = [tuple(items[:length]) for items, length, _ in drawn]
    groups = [user if grouped else 0 for *_, user in drawn]
    matrix = np.full((len(lists), 4), -1)
    for row, items in enumerate(lists):
        matrix[row, : len(items)] = items
    found = find_swaps(matrix, np.array(groups) if grouped else None)
    orders = sorted(set(zip(groups, lists)))
    wanted = {}
    for (g, a), (h, b) in combinations(orders, 2):
        upper = _exchanged(a, b) if g == h and len(a) == len(b) else None
        if upper is not None:
            wanted[frozenset([(g, a), (h, b)])] = upper
    of = {
        number: (groups[row], lists[row]) for row, number in enumerate(found.order) if number >= 0
    }
    got = {
        frozenset([of[i], of[j]]): t
        for i, j, t in zip(found.first, found.second, found.upper, strict=True)
    }
    assert got == wanted
    assert len(found) == len(wanted)
    assert found.requests == sum(
        any((g, items) in pair for pair in wanted) for g, items in zip(groups, lists)
    )


@pytest.fixture(scope="module")
def shown():
    """4,000 lists of three items in all orders; the first slots are answered more, item 0 too."""
    rng = np.random.default_rng(0)
    items = np.stack([rng.permutation(3) for _ in range(4000)])
    return items, 0.6 - 0.15 * np.arange(3) + 0.2 * (items == 0)


def _fit(items, feedback, predicted, **options):
    pairs = find_swaps(items)
    clusters = np.arange(len(items))
    return fit_swaps(pairs, feedback, predicted, clusters, resamples=100, **options)


def test_the_right_model_has_slope_one(shown):
    items, truth = shown
    feedback = (np.random.default_rng(1).random(truth.shape) < truth).astype(float)
    fits = _fit(items, feedback, np.stack([truth, truth]))
    for measure in ("slots", "item moved up"):
        slope = fits[measure].slope
        assert slope.low < 1 < slope.high
        assert slope.high - slope.low < 0.5
        assert len(fits[measure].slope_by_seed) == 2
    up = fits["item moved up"]
    assert up.predicted == pytest.approx(0.15, abs=1e-9)
    assert up.observed.low < 0.15 < up.observed.high


def test_a_model_that_says_half_of_it_has_slope_two(shown):
    items, truth = shown
    fits = _fit(items, truth, 0.5 * truth[None])
    assert fits["slots"].slope.mean == pytest.approx(2)
    assert fits["slots"].correlation.mean == pytest.approx(1)


def test_effects_on_other_slots_are_told_apart(shown):
    """The third slot is answered less where item 0 stands right before it: 0.3 of one answer."""
    items, _ = shown
    truth = np.full(items.shape, 0.5)
    truth[:, 2] -= 0.3 * (items[:, 1] == 0)
    blind = np.full((1, *items.shape), 0.5)
    fits = _fit(items, truth, truth[None])
    assert fits["other slots"].size == pytest.approx(0.03**0.5, abs=0.01)  # 2 of 6 pairs, 0.3 each
    assert fits["other slots"].slope.mean == pytest.approx(1)
    assert fits["list"].slope.mean == pytest.approx(1)
    assert np.isnan(_fit(items, truth, blind)["other slots"].slope.mean)


def test_what_both_models_know_is_taken_off(shown):
    """Requests differ in a mood that both see; beyond it only positions move answers."""
    items, truth = shown
    mood = np.random.default_rng(2).normal(0, 0.2, (len(items), 1))
    base = np.broadcast_to(mood, truth.shape)[None]
    positions = (0.6 - 0.15 * np.arange(3) + mood)[None]
    fits = _fit(items, positions[0], positions, beyond=base)
    up = fits["item moved up"]
    assert up.slope.mean == pytest.approx(1)
    assert up.predicted == pytest.approx(0.15)
    assert np.isnan(fits["list"].slope.mean)


def test_changes_are_compared_where_enough_users_saw_them():
    lists = np.array([[3 * i, 3 * i + 1, 3 * i + 2] for i in range(30)])
    pairs = find_swaps(np.concatenate([lists, lists[:, [1, 0, 2]]]))
    requests = np.arange(60)
    assert len(pairs) == 30
    assert pairs.enough_for(requests)
    assert pairs.enough_for(requests % 30)
    assert not pairs.enough_for(requests % 29)


def test_nothing_to_compare():
    alone = find_swaps(np.array([[1, 2], [3, 4], [1, 2]]))
    assert isinstance(alone, SwapPairs)
    assert (len(alone), alone.requests) == (0, 0)
    assert len(find_swaps(np.array([[1], [2]]))) == 0
