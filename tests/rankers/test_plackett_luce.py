"""Plackett-Luce probabilities: the product of each slot's softmax over what is left."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from goalrank.rankers.plackett_luce import log_prob


def stepwise(scores: Tensor, mask: Tensor, picks: list[int]) -> Tensor:
    left = mask
    total = scores.new_zeros(())
    for pick in picks:
        total = total + scores[pick] - scores[left].logsumexp(0)
        left = left.index_fill(0, torch.tensor(pick), False)
    return total


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 7), st.integers(0, 7), st.integers(1, 8))
def test_values_and_gradients_are_those_of_step_by_step(seed, n, length, slots):
    rng = torch.Generator().manual_seed(seed)
    scores = (torch.randn(n, generator=rng, dtype=torch.float64) * 5).requires_grad_()
    mask = torch.rand(n, generator=rng) < 0.8
    mask[0] = True
    order = [i for i in torch.randperm(n, generator=rng).tolist() if mask[i]]
    picks = order[: min(length, slots)]
    lists = torch.full((1, 1, slots), -1)
    lists[0, 0, : len(picks)] = torch.tensor(picks, dtype=torch.int64)
    got, want = log_prob(scores[None], mask[None], lists)[0, 0], stepwise(scores, mask, picks)
    torch.testing.assert_close(got, want)
    (ours,) = torch.autograd.grad(got, scores)
    (theirs,) = torch.autograd.grad(want + 0 * scores.sum(), scores)
    torch.testing.assert_close(ours, theirs)


def test_all_lists_together_are_certain():
    scores = torch.tensor([[2.0, -1.0, 0.5, 60.0, -60.0]], dtype=torch.float64)
    lists = torch.tensor([list(itertools.permutations(range(5), 3))])
    found = log_prob(scores, torch.ones(1, 5, dtype=torch.bool), lists)
    assert found.exp().sum().item() == pytest.approx(1.0)


def test_no_digits_are_lost_after_a_candidate_that_outweighs_the_rest():
    scores = torch.tensor([[80.0, 0.0, 0.0]])
    found = log_prob(scores, torch.ones(1, 3, dtype=torch.bool), torch.tensor([[[0, 1]]]))
    assert found.item() == pytest.approx(-math.log(2), abs=1e-6)


def test_a_candidate_that_is_not_real_cannot_be_listed():
    mask = torch.tensor([[True, False]])
    found = log_prob(torch.zeros(1, 2), mask, torch.tensor([[[1, 0]]]))
    assert found.item() == -math.inf
