"""Linear layers through the faster of PyTorch's matrix libraries.

PyTorch multiplies float32 matrices on CPUs by MKL, which takes its older AVX2 code on processors
that Intel did not make. oneDNN, also shipped with PyTorch, uses AVX-512 on all of them and is
about twice as fast there, forward and backward. Both sum in float32.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_SMALL = 16  # rows; below, the calls cost more than the products


@lru_cache(maxsize=1)
def prefers_onednn() -> bool:
    """Whether this machine's CPU has AVX-512 that MKL leaves unused."""
    try:
        vendor = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")[:4096]
        known = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    except (OSError, RuntimeError):
        return False
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return known and wide and torch.backends.mkldnn.is_available() and "AuthenticAMD" in vendor


def _usable(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and prefers_onednn()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        and x.numel() >= _SMALL * x.shape[-1]
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> Tensor:
    name, how = ("gelu", "tanh") if gelu else ("none", "")
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], how)
    return out


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        flat = grad.reshape(-1, grad.shape[-1])
        to_x = _product(flat, weight.t(), None).view(x.shape) if need_x else None
        to_weight = None
        if need_weight:
            to_weight = _product(flat.t(), x.reshape(-1, x.shape[-1]).t(), None)
        return to_x, to_weight, flat.sum(0) if need_bias else None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b: [..., D] → [..., D'], as `torch.nn.functional.linear`."""
    if not _usable(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        out: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return out
    return _product(x, weight, bias)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """gelu(x Wᵀ + b) by the tanh formula, in one pass over memory where no gradient is wanted."""
    if torch.is_grad_enabled() or not _usable(x, weight):
        return F.gelu(linear(x, weight, bias), approximate="tanh")
    return _product(x, weight, bias, gelu=True)


class Linear(nn.Linear):
    """`torch.nn.Linear` by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., D] → [..., D']."""
        return linear(input, self.weight, self.bias)
