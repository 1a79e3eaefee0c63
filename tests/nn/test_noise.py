"""Sampling noise: a hash that looks like chance."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goalrank.nn import gumbel, request_salt, uniform

SALT = torch.tensor([11, 12])
ITEMS = torch.arange(1, 41).expand(2, -1)


def test_uniform_has_the_moments_of_the_uniform_distribution():
    u = uniform(torch.arange(50), torch.arange(1, 101).expand(50, -1), 40).flatten().double()
    assert float(u.mean()) == pytest.approx(1 / 2, abs=0.003)
    assert float(u.var()) == pytest.approx(1 / 12, abs=0.002)
    counts = torch.histc(u, 20, 0, 1)
    expected = len(u) / 20
    assert float(((counts - expected) ** 2 / expected).sum()) < 50  # 19 degrees: once in 10^4


def test_neighbouring_noise_is_uncorrelated():
    """Lists, steps, items and requests give uncorrelated noise."""
    salt, items = torch.arange(200), torch.arange(1, 51).expand(200, -1)
    u = uniform(salt, items, 4).double() - 0.5
    pairs = [
        (u[:, 0], u[:, 1]),
        (u[:-1], u[1:]),
        (u[..., :-1], u[..., 1:]),
        (u, uniform(salt, items, 4, step=1).double() - 0.5),
    ]
    for a, b in pairs:
        assert abs(float((a * b).mean() * 12)) < 0.03


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 2**31), st.integers(0, 50))
@settings(max_examples=50, deadline=None)
def test_uniform_is_strictly_between_0_and_1(salt, item, step):
    u = uniform(torch.tensor([salt]), torch.tensor([[item, item + 1]]), 3, step)
    assert (u > 0).all()
    assert (u < 1).all()


def test_the_largest_hash_is_below_one():
    """Rounding to 1 would make the Gumbel noise infinite, and blocked candidates (−∞) NaN."""
    worst = torch.tensor([[6003224362708657369]])  # its hash is all ones
    u = uniform(torch.tensor([0]), worst, 1)
    assert 1 - 1e-7 < float(u) < 1
    assert gumbel(torch.tensor([0]), worst, 1).isfinite().all()


def test_noise_depends_on_every_argument():
    base = uniform(SALT, ITEMS, 3, 0)
    assert not torch.equal(base[0], base[1])
    assert not torch.equal(base[:, 0], base[:, 1])
    assert not torch.equal(base, uniform(SALT + 1, ITEMS, 3, 0))
    assert not torch.equal(base, uniform(SALT, ITEMS + 1, 3, 0))
    assert not torch.equal(base, uniform(SALT, ITEMS, 3, 1))
    assert torch.equal(base, uniform(SALT, ITEMS, 3, 0))


def test_fewer_lists_are_the_first_of_more():
    assert torch.equal(uniform(SALT, ITEMS, 2), uniform(SALT, ITEMS, 5)[:, :2])


def test_permutation_and_neighbours():
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    base = uniform(SALT, ITEMS, 3)
    assert torch.equal(uniform(SALT, ITEMS[:, order], 3), base[..., order])
    assert torch.equal(uniform(SALT[:1], ITEMS[:1, :7], 3), base[:1, :, :7])


def test_candidates_of_one_row_get_noise_of_their_own():
    items = torch.tensor([[5, 9, 5, 5, 0, 0]])
    u = uniform(SALT[:1], items, 2)
    assert len(u[0, 0].unique()) == 6
    assert torch.equal(u[..., :2], uniform(SALT[:1], items[:, :2], 2))


def test_request_salt_is_one_draw_mixed_with_the_key():
    keys = torch.tensor([3, 4, 5])
    rngs = [torch.Generator().manual_seed(1) for _ in range(2)]
    together, alone = request_salt(keys, rngs[0]), request_salt(keys[1:2], rngs[1])
    assert together[1] == alone[0]
    assert len(together.unique()) == 3
    # Both advanced by one draw, whatever B was.
    assert torch.equal(request_salt(keys, rngs[0])[1:2], request_salt(keys[1:2], rngs[1]))


def test_gumbel_max_draws_from_the_softmax():
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5])
    picks = (logits + gumbel(SALT[:1], ITEMS[:1, :4], 20_000)).argmax(-1)
    share = torch.bincount(picks[0], minlength=4) / 20_000
    torch.testing.assert_close(share, logits.softmax(0), atol=0.012, rtol=0)
