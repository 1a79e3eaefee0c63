"""Scores looked up among all pairs of candidates equal those worked out from copied rows."""

from __future__ import annotations

import torch

from goalrank.rankers.goalrank.pointer_decoder import _causal_weights, _prefix_weights


def test_few_and_many_lists_give_the_same_weights():
    torch.manual_seed(0)
    b, n, t, d = 3, 11, 4, 6
    query, key, position = torch.randn(b, n, d), torch.randn(b, n, d), torch.randn(t, d)
    one = torch.stack([torch.randperm(n)[:t] for _ in range(b)]).unsqueeze(1)  # G·T < N: rows
    many = one.expand(b, 5, t)  # G·T > N: pairs
    few = _causal_weights(query, key, position, one)
    torch.testing.assert_close(_causal_weights(query, key, position, many), few.expand(b, 5, t, t))
    torch.testing.assert_close(few.sum(-1), torch.ones(b, 1, t))
    assert (few.triu(1) == 0).all()


def test_prefix_weights_lie_weights_on_the_candidates_of_the_prefix():
    at = torch.tensor([[[2, 0, 0]]])
    real = torch.tensor([[[True, True, False]]])  # the list ended after two
    weight = torch.tensor([[[[1.0, 0.0, 0.0], [0.3, 0.7, 0.0], [0.2, 0.3, 0.5]]]])
    spread, taken = _prefix_weights(weight, at, real, 4)
    assert taken.tolist() == [[[0, 0, 1, 0], [1, 0, 1, 0], [1, 0, 1, 0]]]
    want = torch.tensor([[[0, 0, 2.0, 0], [1.7, 0, 1.3, 0], [1.3, 0, 1.2, 0]]])
    torch.testing.assert_close(spread, want)
