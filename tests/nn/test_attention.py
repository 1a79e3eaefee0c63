"""Attention is its formula, whichever way computes it."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from torch import Tensor

from goalrank.nn import attention_bias, dot_product_attention

WAYS = pytest.mark.parametrize("short", [0, 1 << 20], ids=["fused", "short"])


def formula(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    logits = torch.einsum("bhnd,bhmd->bhnm", q, k) / q.shape[-1] ** 0.5
    weights = logits.masked_fill(~allowed, -torch.inf).softmax(-1)
    return torch.einsum("bhnm,bhmd->bnhd", weights, v).flatten(2)


def drawn(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    sizes = {"q": n, "k": m, "v": m}
    return tuple(torch.randn(3, s, 2, 4).transpose(1, 2).requires_grad_() for s in sizes.values())  # type: ignore[return-value]


@WAYS
@pytest.mark.parametrize("kind", ["none", "mask", "bias", "causal"])
@pytest.mark.parametrize(("n", "m"), [(5, 5), (1, 1), (40, 40)])
def test_values_and_gradients_are_those_of_the_formula(monkeypatch, short, kind, n, m):
    monkeypatch.setattr(import_module("goalrank.nn.attention"), "_SHORT", short)
    q, k, v = drawn(n, m)
    mask = torch.rand(3, m) < 0.6
    mask[:, 0] = True
    allowed = {
        "mask": mask[:, None, None, :],
        "bias": mask[:, None, None, :],
        "causal": torch.ones(n, m, dtype=torch.bool).tril(),
        "none": torch.ones(n, m, dtype=torch.bool),
    }[kind]
    given = {"mask": mask, "bias": attention_bias(mask, q.dtype)}.get(kind)
    got = dot_product_attention(q, k, v, given, causal=kind == "causal")
    want = formula(q, k, v, allowed)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    weight = torch.randn_like(want)
    ours = torch.autograd.grad((got * weight).sum(), (q, k, v))
    theirs = torch.autograd.grad((want * weight).sum(), (q, k, v))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@WAYS
def test_queries_and_keys_may_differ_in_number(monkeypatch, short):
    monkeypatch.setattr(import_module("goalrank.nn.attention"), "_SHORT", short)
    q, _, _ = drawn(7, 7)
    _, k, v = drawn(3, 3)
    want = formula(q, k, v, torch.ones(7, 3, dtype=torch.bool))
    torch.testing.assert_close(dot_product_attention(q, k, v), want, rtol=1e-4, atol=1e-5)


def test_a_row_that_attends_to_nothing_is_the_mean_of_all():
    q, k, v = (torch.randn(2, 2, 40, 8) for _ in range(3))
    mask = torch.ones(2, 40, dtype=torch.bool)
    mask[1] = False
    for few in (40, 5):  # both ways of computing it
        bias = attention_bias(mask[:, :few], q.dtype)
        out = dot_product_attention(q, k[:, :, :few], v[:, :, :few], bias)
        want = v[1, :, :few].mean(1).flatten()
        torch.testing.assert_close(out[1], want.expand(40, -1), atol=1e-5, rtol=0)
