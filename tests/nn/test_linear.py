"""Linear layers give what PyTorch's own give, whichever library multiplies."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from torch.nn import functional as F

from goalrank.nn import Linear, linear, linear_gelu


@pytest.mark.parametrize("least", [1, 1 << 40], ids=["large", "small"])
@pytest.mark.parametrize("shape", [(3,), (40,), (4, 9), (2, 3, 20)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_equal_torchs(monkeypatch, shape, bias, least):
    for name in ("_LARGE", "_LARGE_GELU"):
        monkeypatch.setattr(import_module("goalrank.nn.linear"), name, least)
    torch.manual_seed(0)
    layer = Linear(24, 10, bias=bias)
    x = torch.randn(*shape, 24, requires_grad=True)
    with torch.no_grad():
        torch.testing.assert_close(
            linear_gelu(x, layer.weight, layer.bias),
            F.gelu(F.linear(x, layer.weight, layer.bias), approximate="tanh"),
            rtol=1e-4,
            atol=1e-5,
        )
    weight = torch.randn(*shape, 10)
    inputs = [x, *layer.parameters()]
    ours = layer(x)
    plain = F.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    got = torch.autograd.grad((ours * weight).sum(), inputs)
    want = torch.autograd.grad((plain * weight).sum(), inputs)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_frozen_layer_passes_gradients_on():
    layer = Linear(8, 8).requires_grad_(False)
    x = torch.randn(32, 8, requires_grad=True)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(32, 8))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, layer.weight).dtype == torch.bfloat16
