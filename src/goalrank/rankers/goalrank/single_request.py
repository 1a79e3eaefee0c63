"""Greedy decoding of one request on a CPU: NumPy's vectors in place of batches of one.

At batch 1 a decoding step is so little arithmetic that PyTorch's overhead per operation costs more
than the operation itself. NumPy reads the same memory at a third of that cost.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from goalrank.nn import FeedForward
    from goalrank.rankers.goalrank.pointer_decoder import Memory, PointerDecoder

_GELU = math.sqrt(2 / math.pi)
Array = NDArray[np.floating[Any]]


def is_single_request(memory: Memory) -> bool:
    """Whether `greedy_single_request` may replace batched decoding: one request, float, on a CPU."""
    rows = memory.candidates
    return (
        rows.shape[0] == 1
        and rows.device.type == "cpu"
        and rows.dtype == memory.start.dtype == memory.bias.dtype
        and rows.dtype in (torch.float32, torch.float64)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        and not torch.is_autocast_enabled("cpu")
    )


def greedy_single_request(decoder: PointerDecoder, memory: Memory, slots: int) -> list[int]:
    """The greedy list of one request: up to `slots` candidates, fewer where no more are allowed.

    The arithmetic is that of `Generator.decode`.
    """
    d, half = decoder.width, decoder.width // 2
    rows, scores, scale = _array(memory.candidates)[0], _array(memory.bias)[0].copy(), d**-0.5
    steps = min(slots, len(rows))
    weight, bias = _array(decoder.parts.weight), _array(decoder.parts.bias)[: 3 * d]
    prefix_weight, pointer_weight = weight[: 3 * d], weight[3 * d :]
    offsets = _array(decoder._slot(decoder.position, steps)) + _array(memory.start)
    network = _Network(decoder.norm, decoder.feed_forward, decoder.norm_out)
    # A key is its slot's position vector plus the key part of the candidate placed there.
    keys = _array(decoder._slot(decoder.key_position, steps)).copy()
    values = np.empty((steps, d), rows.dtype)
    state = network(_array(decoder.first) + offsets[0])
    related = np.zeros(d, rows.dtype)
    picks: list[int] = []
    for t in range(steps):
        logits = rows.dot(state.dot(pointer_weight))
        logits *= scale
        logits += scores
        pick = int(logits.argmax())
        if logits[pick] == -math.inf:
            break
        picks.append(pick)
        if t + 1 == steps:
            break
        scores[pick] = -math.inf
        placed = prefix_weight.dot(rows[pick])
        placed += bias
        keys[t] += placed[half:d]
        values[t] = placed[d : 2 * d]
        related += placed[2 * d :]
        # The prefix's values: their attention-weighted mean and their sum.
        if t == 0:
            mixed = 2 * values[0]
        else:
            shares = _softmax(keys[: t + 1].dot(placed[:half]) * half**-0.5)
            shares += 1
            mixed = shares.dot(values[: t + 1])
        mixed += offsets[t + 1]
        state = network(mixed)
        state += related
    return picks


class _Network:
    """`PointerDecoder.state` on one vector: norm, feed-forward with its shortcut, norm."""

    def __init__(self, norm: nn.LayerNorm, network: FeedForward, norm_out: nn.LayerNorm) -> None:
        self.norm = _array(norm.weight), _array(norm.bias), norm.eps
        self.out = _array(norm_out.weight), _array(norm_out.bias), norm_out.eps
        self.up = _array(network.up.weight), _array(network.up.bias)
        self.down = _array(network.down.weight), _array(network.down.bias)

    def __call__(self, x: Array) -> Array:
        """[D] → [D]."""
        x = _layer_norm(x, *self.norm)
        weight, bias = self.up
        hidden = weight.dot(x)
        hidden += bias
        weight, bias = self.down
        out = weight.dot(_gelu(hidden))
        out += bias
        out += x
        return _layer_norm(out, *self.out)


def _array(x: Tensor) -> Array:
    out: Array = x.detach().numpy()
    return out


@lru_cache
def _ones(size: int, dtype: np.dtype[Any]) -> Array:
    """Ones: a dot product with them sums at half the cost of NumPy's `sum`."""
    return np.ones(size, dtype)


def _layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    size = len(x)
    x = x - x.dot(_ones(size, x.dtype)) / size
    x *= weight * (size / (x.dot(x) + size * eps)) ** 0.5
    x += bias
    return x


def _gelu(x: Array) -> Array:
    """GELU by the tanh approximation."""
    inner = x * x
    inner *= 0.044715 * _GELU
    inner += _GELU
    inner *= x
    np.tanh(inner, inner)
    inner += 1
    inner *= x
    inner *= 0.5
    return inner


def _softmax(x: Array) -> Array:
    x = x - np.maximum.reduce(x)
    np.exp(x, x)
    x /= np.add.reduce(x)
    return x
