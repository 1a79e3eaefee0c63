"""Eq. 4 by the population and by the sample deviation."""

from __future__ import annotations

import math

import pytest
import torch

from goalrank.training import OBJECTIVES, reference_policy


@pytest.mark.parametrize("lists", [2, 3, 20])
def test_sample_is_population_at_a_higher_temperature(lists):
    rewards = torch.randn(4, lists, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    valid = torch.ones(4, lists, dtype=torch.bool)
    sample = reference_policy(rewards, valid, scale="sample")
    softer = reference_policy(rewards, valid, temperature=math.sqrt(lists / (lists - 1)))
    torch.testing.assert_close(sample, softer)
    assert not torch.allclose(sample, reference_policy(rewards, valid))


def test_it_is_the_formula_with_absent_lists():
    rewards = torch.tensor([[1.0, 3.0, 2.0, 99.0]], dtype=torch.float64)
    valid = torch.tensor([[True, True, True, False]])
    real = rewards[0, :3]
    wanted = ((real - real.mean()) / real.std(correction=1)).softmax(0)
    found = reference_policy(rewards, valid, scale="sample")
    torch.testing.assert_close(found[0, :3], wanted)
    assert found[0, 3] == 0


def test_tied_groups_pull_towards_uniform():
    rewards = torch.ones(1, 4)
    valid = torch.ones(1, 4, dtype=torch.bool)
    for scale in ("group", "sample"):
        torch.testing.assert_close(
            reference_policy(rewards, valid, scale=scale), torch.full((1, 4), 0.25)
        )
    log_prob = torch.tensor([[0.9, 0.05, 0.03, 0.02]]).log().requires_grad_()
    loss = OBJECTIVES["group_relative_sample"](log_prob, rewards, valid, valid, 1.0)
    (slope,) = torch.autograd.grad(loss, log_prob)
    assert (slope < 0).all()  # every list of the group is to become likelier, all alike
