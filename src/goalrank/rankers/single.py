"""Greedy decoding of one request on a CPU: vectors in place of batches of one.

At batch 1 a decoding step is so little arithmetic that what PyTorch does around each operation
costs more than the operation. Here a step is a dozen operations on vectors and views.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from goalrank.rankers.generator import Memory, PointerDecoder


def decodes_alone(memory: Memory) -> bool:
    """Whether `greedy_alone` may stand in for a batch's decoding: one request, float, on a CPU."""
    parts = memory.parts
    return (
        parts.shape[0] == 1
        and parts.device.type == "cpu"
        and parts.dtype == memory.start.dtype == memory.bias.dtype
        and parts.dtype in (torch.float32, torch.float64)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        and not torch.is_autocast_enabled("cpu")
    )


def greedy_alone(decoder: PointerDecoder, memory: Memory, slots: int) -> list[int]:
    """The greedy list of one request: up to `slots` candidates, fewer where no more are allowed.

    The arithmetic is that of `Generator.decode`.
    """
    d, half = decoder.width, decoder.width // 2
    rows, scores = memory.parts[0], memory.bias[0].clone()
    left = scores.numpy()  # the same numbers: one is struck out without an operation of PyTorch
    steps = min(slots, len(rows))
    pointer = rows[:, 3 * d :]
    places = (decoder._slot(decoder.position, steps) + memory.start).unbind(0)
    keys_at = F.pad(decoder._slot(decoder.key_position, steps), (0, d)).unbind(0)
    cache = rows.new_empty(steps, half + d)
    keys, values = cache[:, :half], cache[:, half:].t()
    state = _state(decoder, decoder.first + places[0])
    related: Tensor | None = None
    picks: list[int] = []
    for t in range(steps):
        logits = torch.addmv(scores, pointer, state, alpha=d**-0.5).numpy()
        pick = int(logits.argmax())
        if logits[pick] == -math.inf:
            break
        picks.append(pick)
        if t + 1 == steps:
            break
        left[pick] = -math.inf
        query, fresh, relation, _ = rows[pick].split((half, half + d, d, d))
        torch.add(fresh, keys_at[t], out=cache[t])
        related = relation if related is None else related + relation
        # The prefix's values: their attention-weighted mean and their sum.
        if t == 0:
            mixed = torch.add(places[1], fresh[half:], alpha=2)
        else:
            weight = torch.mv(keys[: t + 1], query).mul_(half**-0.5).softmax(0).add_(1)
            mixed = torch.addmv(places[t + 1], values[:, : t + 1], weight)
        state = _state(decoder, mixed).add_(related)
    return picks


def _state(decoder: PointerDecoder, mixed: Tensor) -> Tensor:
    """Pointer vector [D] from what the prefix gave, but for relations."""
    norm, out, network = decoder.norm, decoder.norm_out, decoder.feed_forward
    size = (decoder.width,)
    x = torch.layer_norm(mixed, size, norm.weight, norm.bias, norm.eps)
    hidden = torch.addmv(network.up.bias, network.up.weight, x)
    hidden = torch.ops.aten.gelu_(hidden, approximate="tanh")
    x = torch.addmv(network.down.bias, network.down.weight, hidden).add_(x)
    return torch.layer_norm(x, size, out.weight, out.bias, out.eps)
