"""Means over a batch whose requests several processes share.

Each process computes a loss on its own requests, and the mean of those losses, weighed by each
process's share of the requests, is what the gradients follow. A loss that divides by a count of
its own (positives, known slots) divides by `divisor(count)` instead, which makes that weighted
mean equal to the loss of the whole batch. In one process it is the count itself.
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
    """Say what share of the batch this process's requests are, while a loss is computed.

    Args:
        share: processes · requests here / requests in all; 0 where a process only keeps step, None
            where the batch is not shared. Every process of the group must do the same.
    """
    global _share
    before, _share = _share, share
    try:
        yield
    finally:
        _share = before


def whole_sum(value: Tensor) -> Tensor:
    """A sum over this process's requests, summed over all processes; no gradient."""
    if _share is None:
        return value
    total = value.detach() * float(_share > 0)
    distributed.all_reduce(total)
    return total


def divisor(count: Tensor) -> Tensor:
    """What a loss divides its sum over this process's requests by; at least 1 in one process.

    Args:
        count: a scalar, of this process's requests.
    """
    if _share is None:
        return count.clamp_min(1)
    total = whole_sum(count.to(torch.float32)) * (_share / distributed.get_world_size())
    return torch.where(total > 0, total, torch.ones_like(total))


def whole_ids(ids: Tensor) -> Tensor:
    """Ids [n] of this process's requests → those of all processes' requests, with zeros between.

    Args:
        ids: 0 where there is none; n may differ between processes.
    """
    if _share is None:
        return ids
    most = torch.tensor(len(ids), device=ids.device)
    distributed.all_reduce(most, distributed.ReduceOp.MAX)
    mine = F.pad(ids * int(_share > 0), (0, int(most) - len(ids)))
    out = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(out, mine)
    return torch.cat(out)
