"""Metrics against a naive second implementation, by enumeration of the orders of ties."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.evaluation.ranking import metrics as m

METRICS = {name: m.METRICS[name] for name in m.METRICS.builtin_names}


def naive(order: list[int], relevance: list[float], slots: int, gain: str) -> dict[str, float]:
    """All list metrics of one order of one request, spelt out."""
    y = [1 if relevance[i] > 0 else 0 for i in order[:slots]]
    g = [max(relevance[i], 0.0) for i in order[:slots]]
    ideal = sorted((max(r, 0.0) for r in relevance), reverse=True)[:slots]
    if gain == "exponential":
        g, ideal = [2**v - 1 for v in g], [2**v - 1 for v in ideal]
    positives = sum(r > 0 for r in relevance)
    best = min(positives, slots)
    hits = sum(y)
    precision, rec = hits / min(slots, len(relevance)), hits / best
    dcg = [sum(v / math.log2(t + 2) for t, v in enumerate(x)) for x in (g, ideal)]
    ap = sum(sum(y[: t + 1]) / (t + 1) for t in range(len(y)) if y[t]) / best
    return {
        "recall": rec,
        "hit_rate": float(hits > 0),
        "ndcg": dcg[0] / dcg[1],
        "map": ap,
        "f1": 2 * precision * rec / (precision + rec) if hits else 0.0,
    }


def naive_auc(scores: list[float], relevance: list[float]) -> float:
    pairs = [
        (a > b) + 0.5 * (a == b)
        for a, r in zip(scores, relevance)
        for b, q in zip(scores, relevance)
        if r > 0 and q <= 0
    ]
    return sum(pairs) / len(pairs) if pairs else math.nan


def naive_expected(
    scores: list[float], relevance: list[float], slots: int, gain: str
) -> dict[str, Any]:
    """Mean over every order that sorts the scores, ties in any order."""
    n = len(scores)
    orders = [
        list(p)
        for p in itertools.permutations(range(n))
        if all(scores[p[i]] >= scores[p[i + 1]] for i in range(n - 1))
    ]
    rows = [naive(order, relevance, slots, gain) for order in orders]
    return {name: sum(r[name] for r in rows) / len(rows) for name in rows[0]}


@st.composite
def requests(draw):
    n = draw(st.integers(1, 6))
    scores = draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=n, max_size=n))
    relevance = draw(st.lists(st.sampled_from([-1.0, 0.0, 0.0, 1.0, 3.0]), min_size=n, max_size=n))
    return scores, relevance


def padded(rows: list[list[float]], extra: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows)) + extra
    # Padding carries loud values: a metric that reads it goes wrong.
    values = torch.tensor([row + [9.0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    return values, mask


@given(
    st.lists(requests(), min_size=1, max_size=3),
    st.integers(1, 8),
    st.integers(0, 2),
    st.sampled_from(["linear", "exponential"]),
)
@settings(max_examples=60, deadline=None)
def test_expected_over_ties_equals_enumeration(batch, slots, extra, gain):
    scores, mask = padded([s for s, _ in batch], extra)
    relevance, _ = padded([r for _, r in batch], extra)
    values = m.from_scores(scores, relevance, mask, slots, gain=gain)
    areas = m.auc(scores, relevance, mask)
    for b, (s, r) in enumerate(batch):
        if not any(v > 0 for v in r):
            assert all(math.isnan(f(values)[b]) for f in METRICS.values())
            assert math.isnan(areas[b])
            continue
        want = naive_expected(s, r, slots, gain)
        for name, f in METRICS.items():
            assert float(f(values)[b]) == pytest.approx(want[name], abs=1e-9), name
        assert float(areas[b]) == pytest.approx(naive_auc(s, r), abs=1e-9, nan_ok=True)


@given(requests(), st.integers(1, 8), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_emitted_lists_equal_the_naive_formula(request_, slots, random):
    _, r = request_
    if not any(v > 0 for v in r):
        return
    order = list(range(len(r)))
    random.shuffle(order)
    emitted = order[: random.randint(0, min(slots, len(r)))]  # may end early
    lists = torch.tensor([emitted + [-1] * (slots - len(emitted))])
    relevance, mask = padded([r], 1)
    values = m.from_lists(lists, relevance, mask)
    want = naive(emitted, r, slots, "linear")
    for name, f in METRICS.items():
        assert float(f(values)[0]) == pytest.approx(want[name], abs=1e-9), name


@pytest.mark.parametrize("slots", [1, 2, 4, 7])
def test_constant_scorer_scores_exactly_as_all_random_orders(slots):
    relevance = torch.tensor([[1.0, 0.0, 2.0, 0.0, 1.0]])
    mask = torch.ones_like(relevance, dtype=torch.bool)
    constant = m.from_scores(torch.full_like(relevance, 3.0), relevance, mask, slots)
    orders = torch.tensor(list(itertools.permutations(range(5))))
    lists = torch.nn.functional.pad(orders[:, :slots], (0, max(slots - 5, 0)), value=-1)
    every = m.from_lists(lists, relevance.expand(120, -1), mask.expand(120, -1))
    for name, f in METRICS.items():
        assert float(f(constant)) == pytest.approx(float(f(every).mean()), abs=1e-12), name
    assert float(m.auc(torch.zeros(1, 5), relevance, mask)) == 0.5


def test_planted_values():
    relevance = torch.tensor([[0.0, 1.0, 0.0, 1.0]])
    mask = torch.ones_like(relevance, dtype=torch.bool)
    v = m.from_lists(torch.tensor([[1, 0]]), relevance, mask)
    assert float(m.recall(v)) == 0.5
    assert float(m.hit_rate(v)) == 1.0
    assert float(m.average_precision(v)) == 0.5
    assert float(m.f1(v)) == 0.5
    assert float(m.ndcg(v)) == pytest.approx(1 / (1 + 1 / math.log2(3)))


def test_infinite_scores_of_real_candidates_do_not_tie_with_padding():
    scores = torch.tensor([[-torch.inf, -torch.inf, 0.0]])
    relevance = torch.tensor([[1.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, False]])
    v = m.from_scores(scores, relevance, mask, 1)
    assert float(m.recall(v)) == 0.5


def test_many_candidates_stay_within_zero_and_one():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 5, (4, 900), generator=generator).float()
    relevance = (torch.rand(4, 900, generator=generator) < 0.02).float()
    mask = torch.ones_like(scores, dtype=torch.bool)
    v = m.from_scores(scores, relevance, mask, 6)
    for f in METRICS.values():
        assert ((f(v) >= 0) & (f(v) <= 1)).all()
