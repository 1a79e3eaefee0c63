from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.errors import ConfigError
from goalrank.studies.theory import best_of_log_prob, score_classes

torch.set_num_threads(1)


def _case(k: int, lists: int, values: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    log_prob = 2.0 * torch.randn(k, 1, lists, generator=rng, dtype=torch.float64)
    score = torch.randint(values, (1, lists), generator=rng).double()
    return log_prob.log_softmax(dim=2), score


def _by_hand(log_prob: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
    """Every way to draw k lists, the tied best ones sharing the pick."""
    k, _, lists = log_prob.shape
    p, result = log_prob.exp()[:, 0], torch.zeros(lists, dtype=torch.float64)
    for draws in itertools.product(range(lists), repeat=k):
        chance = torch.stack([p[j, draw] for j, draw in enumerate(draws)]).prod()
        best = max(float(score[0, draw]) for draw in draws)
        tied = [draw for draw in draws if float(score[0, draw]) == best]
        for draw in tied:
            result[draw] += chance / len(tied)
    return result


@given(
    k=st.integers(1, 4), lists=st.integers(1, 5), values=st.integers(1, 6), seed=st.integers(0, 99)
)
@settings(max_examples=25, deadline=None)
def test_the_formula_is_the_enumeration_of_all_draws(
    k: int, lists: int, values: int, seed: int
) -> None:
    log_prob, score = _case(k, lists, values, seed)
    exact = best_of_log_prob(log_prob, score_classes(score)).exp()[0]
    torch.testing.assert_close(exact, _by_hand(log_prob, score))


@given(k=st.integers(1, 9), values=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_chances_sum_to_one(k: int, values: int, seed: int) -> None:
    log_prob, score = _case(k, 40, values, seed)
    total = best_of_log_prob(log_prob, score_classes(score)).exp().sum()
    assert float(total) == pytest.approx(1.0)


def test_without_ties_it_is_the_difference_of_two_products() -> None:
    log_prob, _ = _case(3, 20, 1, 5)
    score = torch.arange(20.0).flip(0)[None]
    p = log_prob.exp()[:, 0].flip(1)
    upto = p.cumsum(dim=1)
    expected = (upto.prod(dim=0) - (upto - p).prod(dim=0)).flip(0)
    exact = best_of_log_prob(log_prob, score_classes(score)).exp()[0]
    torch.testing.assert_close(exact, expected)


def test_sampling_agrees() -> None:
    log_prob, score = _case(4, 6, 3, 7)
    rng, draws = torch.Generator().manual_seed(0), 200_000
    drawn = torch.stack(
        [torch.multinomial(p, draws, True, generator=rng) for p in log_prob[:, 0].exp()]
    )
    key = score[0, drawn] + 0.5 * torch.rand(drawn.shape, generator=rng)  # ties broken at random
    picked = drawn.gather(0, key.argmax(dim=0, keepdim=True))[0]
    share = torch.bincount(picked, minlength=6).double() / draws
    exact = best_of_log_prob(log_prob, score_classes(score)).exp()[0]
    assert float((share - exact).abs().max()) < 5.0 * (0.25 / draws) ** 0.5


def test_one_generator_is_unchanged_by_any_evaluator() -> None:
    log_prob, score = _case(1, 12, 4, 3)
    torch.testing.assert_close(best_of_log_prob(log_prob, score_classes(score)), log_prob[0])


def test_gradients_match_finite_differences() -> None:
    log_prob, score = _case(3, 5, 3, 2)
    classes = score_classes(score)

    def picked(logit: torch.Tensor) -> torch.Tensor:
        return best_of_log_prob(logit.log_softmax(dim=2), classes)

    assert torch.autograd.gradcheck(picked, (log_prob.clone().requires_grad_(),))


def test_classes_rank_distinct_scores() -> None:
    score = torch.tensor([[0.3, -1.0, 0.3, 2.0]])
    assert score_classes(score).tolist() == [[1, 0, 1, 2]]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[k, M, P\]"):
        best_of_log_prob(torch.zeros(2, 1, 5), torch.zeros(1, 4, dtype=torch.int64))
