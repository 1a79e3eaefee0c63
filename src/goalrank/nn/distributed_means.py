"""Means over a batch whose requests are split between processes.

Each process computes a loss on its own requests. Gradients follow the mean of those losses,
weighted by each process's share of the requests. A loss that divides by a count (positives, known
slots) divides by `divisor(count)` instead, which makes the weighted mean equal to the loss of the
whole batch. In one process the divisor is the count itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

_share: float | None = None


@contextmanager
def sharing(share: float | None) -> Iterator[None]:
    """Set this process's share of the batch while a loss is computed.

    Args:
        share: processes · requests of this process / requests of the batch; 0 for a process
            without requests, None where the batch is not split. Every process of the
            group must set it.
    """
    global _share  # noqa: PLW0603  reset at the block's end
    before, _share = _share, share
    try:
        yield
    finally:
        _share = before


def whole_sum(value: Tensor) -> Tensor:
    """Sum over all processes of a sum over this process's requests, without gradient.

    Args:
        value: a tensor of the same shape in all processes.
    """
    if _share is None:
        return value
    total = value.detach() * float(_share > 0)
    distributed.all_reduce(total)
    return total


def divisor(count: Tensor) -> Tensor:
    """Divisor of a loss's sum over this process's requests; at least 1 in one process.

    Args:
        count: scalar count over this process's requests.
    """
    if _share is None:
        return count.clamp_min(1)
    total = whole_sum(count.to(torch.float32)) * (_share / distributed.get_world_size())
    return torch.where(total > 0, total, torch.ones_like(total))


def whole_ids(ids: Tensor) -> Tensor:
    """Gather the ids of all processes' requests, padded with zeros.

    Args:
        ids: [n] ids of this process's requests, 0 for none; n may differ between processes.
    """
    if _share is None:
        return ids
    most = torch.tensor(len(ids), device=ids.device)
    distributed.all_reduce(most, distributed.ReduceOp.MAX)
    mine = F.pad(ids * int(_share > 0), (0, int(most) - len(ids)))
    out = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(out, mine)
    return torch.cat(out)
