"""Linear layers that use the faster of PyTorch's matrix libraries.

PyTorch multiplies float32 matrices on CPUs by MKL, which runs older AVX2 code on processors of
other makers than Intel. oneDNN, which is also part of PyTorch, uses AVX-512 on all of them: up to
twice as fast for large products, and able to apply GELU on the way. A call of it costs some 20
microseconds more, so small products stay with MKL. Both sum in float32.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Network = TypeVar("Network", bound=nn.Module)
# Multiply-adds from which oneDNN saves more than its call costs.
_LARGE = 1 << 22
_LARGE_GELU = 1 << 21


@lru_cache(maxsize=1)
def prefers_onednn() -> bool:
    """Whether this machine's CPU has AVX-512 that MKL does not use."""
    try:
        vendor = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")[:4096]
        known = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    except (OSError, RuntimeError):
        return False
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return known and wide and torch.backends.mkldnn.is_available() and "AuthenticAMD" in vendor


def _pays(x: Tensor, weight: Tensor, least: int = _LARGE) -> bool:
    """Whether oneDNN can compute a product, and is the faster one."""
    # A traced graph must not depend on the sizes of its example.
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    return (
        x.numel() * weight.shape[0] >= least
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and prefers_onednn()
        and not torch.is_autocast_enabled("cpu")
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> Tensor:
    activation, variant = ("gelu", "tanh") if gelu else ("none", "")
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], variant)
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
        # oneDNN would copy both transposed first.
        to_weight = flat.t() @ x.reshape(-1, x.shape[-1]) if need_weight else None
        return to_x, to_weight, flat.sum(0) if need_bias else None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Linear map x Wᵀ + b, like `torch.nn.functional.linear`.

    Args:
        x: [..., D].
        weight: W, [D', D].
        bias: b, [D'], or None.

    Returns:
        [..., D'].
    """
    if not _pays(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        out: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return out
    return _product(x, weight, bias)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Linear map with GELU (tanh formula), in one pass over memory where no gradient is needed.

    Args:
        x: [..., D].
        weight: W, [D', D].
        bias: b, [D'], or None.

    Returns:
        gelu(x Wᵀ + b), [..., D'].
    """
    if torch.is_grad_enabled() or not _pays(x, weight, _LARGE_GELU):
        return F.gelu(linear(x, weight, bias), approximate="tanh")
    return _product(x, weight, bias, gelu=True)


def zeroed(network: Network) -> Network:
    """Set the last linear layer of a network to 0, so that its output is 0 until it has learned.

    Args:
        network: a linear layer, or a sequence that ends with one; changed in place.
    """
    last = network[-1] if isinstance(network, nn.Sequential) else network
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return network


class Linear(nn.Linear):
    """`torch.nn.Linear` computed by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """Map [..., D] to [..., D']."""
        return linear(input, self.weight, self.bias)
