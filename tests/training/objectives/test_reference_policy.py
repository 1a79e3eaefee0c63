"""The reference policy and the objectives, against plain second implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from goalrank.training import (
    OBJECTIVES,
    group_cross_entropy,
    group_statistics,
    rank_policy,
    reference_policy,
)
from goalrank.training.objectives.group_objectives import policy_entropy

REWARDS = st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=7)
quick = settings(max_examples=60, deadline=None)


def naive(rewards: list[float], temperature: float, scale: str) -> np.ndarray:
    """Equation 4, in numpy and float64, one group at a time."""
    r = np.array(rewards, np.float64)
    z = r - r.mean()
    if scale == "group":
        z = z / r.std()
    e = np.exp(z / temperature)
    return e / e.sum()


def row(values: list[float]) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def apart(values: list[float]) -> bool:
    return max(values) - min(values) > 1e-3


@given(REWARDS.filter(apart), st.floats(0.1, 5), st.sampled_from(["group", "none"]))
@quick
def test_equation_four(rewards, temperature, scale):
    valid = torch.ones(1, len(rewards), dtype=torch.bool)
    got = reference_policy(row(rewards), valid, temperature=temperature, scale=scale)
    np.testing.assert_allclose(got[0], naive(rewards, temperature, scale), rtol=1e-9, atol=1e-12)


@given(REWARDS.filter(apart), st.integers(0, 20))
@quick
def test_lists_that_do_not_count_change_nothing(rewards, seed):
    rng = np.random.default_rng(seed)
    valid = torch.from_numpy(np.r_[np.ones(len(rewards), bool), np.zeros(3, bool)])
    order = torch.from_numpy(rng.permutation(len(valid)))
    padded = row([*rewards, 99.0, -math.inf, math.nan])[:, order]
    mask = valid[order].unsqueeze(0)
    for policy in (reference_policy, rank_policy):
        got = policy(padded, mask)
        assert (got[~mask] == 0).all()
        assert float(got.sum()) == pytest.approx(1)
        alone = policy(row(rewards), torch.ones(1, len(rewards), dtype=torch.bool))
        torch.testing.assert_close(got[:, order.argsort()][:, : len(rewards)], alone)


@given(REWARDS.filter(apart), st.floats(-100, 100), st.floats(-6, 6))
@quick
def test_shift_and_positive_scale_change_nothing(rewards, shift, exponent):
    valid = torch.ones(1, len(rewards), dtype=torch.bool)
    base = reference_policy(row(rewards), valid)
    moved = reference_policy((row(rewards) + shift) * 10**exponent, valid)
    torch.testing.assert_close(moved, base, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("size", [1e-30, 1e-7, 1.0, 1e25])
def test_any_size_of_reward_in_single_precision(size):
    rewards = torch.tensor([[0.0, 1.0, 3.0]]) * size
    want = naive([0, 1, 3], 1.0, "group")
    got = reference_policy(rewards, torch.ones(1, 3, dtype=torch.bool))
    np.testing.assert_allclose(got[0], want, rtol=1e-5)


@given(st.floats(-1e6, 1e6, width=32), st.integers(1, 6))
@quick
def test_ties_are_uniform(value, count):
    rewards = torch.full((2, count), value)
    valid = torch.ones_like(rewards, dtype=torch.bool)
    for got in (
        reference_policy(rewards, valid),
        reference_policy(rewards, valid, scale="none"),
        rank_policy(rewards, valid),
    ):
        torch.testing.assert_close(got, torch.full_like(got, 1 / count))
    assert group_statistics(rewards, valid).degenerate.all()


def test_ties_but_for_rounding_are_uniform():
    rewards = torch.full((1, 8), 0.1) * torch.tensor([1, 1 + 1e-7, 1, 1, 1, 1 - 6e-8, 1, 1])
    got = reference_policy(rewards, torch.ones(1, 8, dtype=torch.bool))
    torch.testing.assert_close(got, torch.full((1, 8), 0.125))


def test_an_empty_group_is_nothing_rather_than_nan():
    rewards = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    valid = torch.tensor([[False, False], [True, True]])
    reference = reference_policy(rewards, valid)
    assert reference[0].tolist() == [0, 0]
    log_prob = torch.tensor([[-1.0, -2.0], [-1.0, -2.0]], requires_grad=True)
    loss = group_cross_entropy(log_prob, reference, valid)
    loss.backward()
    assert loss.isfinite()
    assert log_prob.grad is not None
    assert log_prob.grad[0].tolist() == [0, 0]


def test_statistics():
    rewards = torch.tensor([[1.0, 2.0, 6.0, 50.0], [3.0, 3.0, 3.0, 9.0]])
    valid = torch.tensor([[True, True, True, False]] * 2)
    got = group_statistics(rewards, valid)
    torch.testing.assert_close(got.mean, torch.tensor([3.0, 3.0]))
    torch.testing.assert_close(got.std[0], torch.tensor([1.0, 2.0, 6.0]).std(correction=0))
    assert got.degenerate.tolist() == [False, True]


@given(REWARDS.filter(apart), st.floats(0.2, 3))
@quick
def test_lower_temperature_favours_the_best(rewards, temperature):
    valid = torch.ones(1, len(rewards), dtype=torch.bool)
    cold = reference_policy(row(rewards), valid, temperature=temperature / 2)
    warm = reference_policy(row(rewards), valid, temperature=temperature)
    best = int(np.argmax(rewards))
    assert cold[0, best] >= warm[0, best] - 1e-12
    entropy = policy_entropy(torch.cat([cold, warm]))
    assert entropy[0] <= entropy[1] + 1e-9


@given(REWARDS)
@quick
def test_ranks_forget_sizes(rewards):
    valid = torch.ones(1, len(rewards), dtype=torch.bool)
    got = rank_policy(row(rewards), valid)
    stretched = rank_policy(row([math.copysign(abs(r) ** 3, r) * 7 for r in rewards]), valid)
    flat = len({math.copysign(abs(r) ** 3, r) for r in rewards}) < len(set(rewards))
    if not flat:  # cubes of tiny numbers may tie where the numbers do not
        torch.testing.assert_close(got, stretched)
    order = np.argsort(rewards, kind="stable")
    assert (np.diff(got[0].numpy()[order]) >= -1e-12).all()


def test_rank_policy_by_hand():
    """Ranks 0, 1.5, 1.5, 3."""
    got = rank_policy(row([0.1, 5.0, 5.0, 900.0]), torch.ones(1, 4, dtype=torch.bool))
    np.testing.assert_allclose(got[0], naive([0, 1.5, 1.5, 3], 1.0, "group"), rtol=1e-9)


@given(st.integers(0, 10**6))
@quick
def test_cross_entropy_against_a_loop(seed):
    rng = np.random.default_rng(seed)
    log_prob, rewards = -rng.exponential(size=(3, 5)), rng.normal(size=(3, 5))
    valid = rng.random((3, 5)) < 0.7
    valid[:, 0] = True
    reference = reference_policy(torch.from_numpy(rewards), torch.from_numpy(valid))
    want = 0.0
    for b in range(3):
        for g in range(5):
            if valid[b, g]:
                want -= float(reference[b, g]) * log_prob[b, g] / 3
    log_prob[~valid] = -np.inf
    got = group_cross_entropy(torch.from_numpy(log_prob), reference, torch.from_numpy(valid))
    assert float(got) == pytest.approx(want)


def problem(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    log_prob = torch.from_numpy(-rng.exponential(size=(3, 6))).requires_grad_()
    rewards = torch.from_numpy(rng.normal(size=(3, 6)))
    rewards[0, 1] = rewards[0, 2]
    valid = torch.ones(3, 6, dtype=torch.bool)
    valid[1, 4:] = False
    own = torch.tensor([True, True, True, False, False, True]).expand(3, 6)
    return log_prob, rewards, valid, own


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_gradients_of_objectives(name):
    log_prob, rewards, valid, own = problem()
    objective = OBJECTIVES[name]

    def loss(x: Tensor) -> Tensor:
        return objective(x, rewards, valid, own, 0.7)

    assert torch.autograd.gradcheck(loss, (log_prob,))
    loss(log_prob).backward()
    assert log_prob.grad is not None
    assert (log_prob.grad[~valid] == 0).all()
    # A small step against the gradient makes the best list likelier than the worst.
    counted = valid & own if name == "reinforce" else valid
    for b in range(3):
        order = rewards[b].masked_fill(~counted[b], torch.nan)
        best, worst = int(order.nan_to_num(-9).argmax()), int(order.nan_to_num(9).argmin())
        assert log_prob.grad[b, best] < log_prob.grad[b, worst]


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_objectives_ignore_lists_that_do_not_count(name):
    log_prob, rewards, valid, own = problem(1)
    first = OBJECTIVES[name](log_prob, rewards, valid, own, 0.7)
    changed = torch.where(valid, log_prob, -math.inf)
    again = OBJECTIVES[name](changed, rewards.masked_fill(~valid, 77.0), valid, own, 0.7)
    torch.testing.assert_close(again, first)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_objectives_learn_nothing_from_ties(name):
    log_prob, rewards, valid, own = problem(2)
    OBJECTIVES[name](log_prob, torch.full_like(rewards, 0.3), valid, own, 0.7).backward()
    assert log_prob.grad is not None
    grads = log_prob.grad[0]
    torch.testing.assert_close(grads, grads.mean().expand(6))  # the uniform policy, or nothing


def test_reinforce_by_hand():
    log_prob = torch.tensor([[-1.0, -2.0, -5.0]], dtype=torch.float64)
    rewards = torch.tensor([[1.0, 3.0, 40.0]], dtype=torch.float64)
    own = torch.tensor([[True, True, False]])
    valid = torch.ones(1, 3, dtype=torch.bool)
    got = OBJECTIVES["reinforce"](log_prob, rewards, valid, own, 1.0)
    assert float(got) == pytest.approx(-((-1) * -1.0 + 1 * -2.0) / 2, rel=1e-5)


def test_preference_by_hand():
    log_prob = torch.tensor([[-1.0, -2.0, -1.5]], dtype=torch.float64)
    rewards = torch.tensor([[0.0, 1.0, 1.0]], dtype=torch.float64)
    valid = torch.ones(1, 3, dtype=torch.bool)
    got = OBJECTIVES["preference"](log_prob, rewards, valid, valid, 2.0)
    want = (math.log1p(math.exp(2.0)) + math.log1p(math.exp(1.0))) / 2
    assert float(got) == pytest.approx(want)
