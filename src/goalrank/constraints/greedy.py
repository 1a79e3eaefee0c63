"""Greedy lists of a generator with their log-probability in one pass, under rules known beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from goalrank.constraints.constraints import CompiledConstraints
from goalrank.constraints.decoding import Resolved
from goalrank.rankers import Generator, Ranker


def is_prefix_free(plan: CompiledConstraints) -> bool:
    """Whether what each slot may take does not depend on what stands before it."""
    return not plan.joint and plan.groups is None


def decodes_greedily(ranker: Ranker) -> bool:
    """Whether `greedy_lists` gives this ranker's best lists."""
    return isinstance(ranker, Generator) and ranker.beam == 1


def open_slots(plans: Sequence[Resolved | None], slots: int, n: int) -> Tensor | None:
    """[B, L, N] True where a candidate may stand in a slot, whatever stands before it.

    Args:
        plans: `is_prefix_free` ones; None allows everything.
        n: N of the batch.

    Returns:
        None where no request has rules.
    """
    if all(settled is None for settled in plans):
        return None
    out = np.ones((len(plans), slots, n), np.bool_)
    for row, settled in enumerate(plans):
        if settled is None:
            continue
        plan, size = settled[0], len(settled[0].allowed)
        pinned = [at for at in plan.pins.values() if at >= 0]
        free = plan.allowed.copy()
        free[pinned] = False
        out[row, :, :size] = free
        for slot, at in plan.pins.items():
            out[row, slot] = False
            out[row, slot, at] = True
        out[row, plan.length :] = False
    return torch.from_numpy(out)


def greedy_lists(
    ranker: Generator, memory: object, slots: int, open_to: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The most probable candidate at every slot, and what that list's probability is.

    Args:
        memory: of the ranker's `encode`.
        open_to: [B, L, N] from `open_slots`; None allows everything.

    Returns:
        lists [B, L], -1 where nothing is left; log-probabilities [B] in double precision.
    """
    kept: list[Tensor] = []

    def note(logits: Tensor, step: int) -> Tensor:
        if open_to is not None:
            logits = logits.masked_fill(~open_to[:, step].unsqueeze(1), -torch.inf)
        kept.append(logits)
        return logits

    lists = ranker.decode(memory, slots, 1, note).squeeze(1)  # type: ignore[arg-type]
    worth = torch.cat(kept, 1).double()
    best = worth.amax(-1, keepdim=True)
    over = best.isneginf()
    # The pick is the best one, so that log softmax at it is what the others leave of it.
    rest = (worth - best.masked_fill(over, 0.0)).exp().sum(-1).log()
    return lists, -rest.masked_fill(over.squeeze(-1), 0.0).sum(-1)
