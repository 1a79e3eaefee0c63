"""Constrained decoding: any stepwise policy, masked at every slot to the allowed candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goalrank.constraints.constraints import CompiledConstraints
from goalrank.constraints.feasibility import Lookahead
from goalrank.nn import distinct, gumbel
from goalrank.rankers import Ranker
from goalrank.requests import Batch

Resolved = tuple[CompiledConstraints, Lookahead]


def constrained_lists(
    ranker: Ranker,
    state: Any,
    batch: Batch,
    constraints: Sequence[Resolved | None],
    slots: int,
    *,
    temperature: float = 1.0,
    salt: Tensor | None = None,
    forced: Tensor | None = None,
    steps: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Decode lists, and their exact log-probability, under the masked policy.

    π(l) = Π_t softmax over the allowed of (logits_t − diversity) / temperature. The allowed
    candidates are those after which the list can still be completed, so that no probability is
    lost in dead ends.

    Args:
        ranker: a ranker that is `stepwise`.
        state: result of the ranker's `encode`.
        batch: the encoded requests.
        constraints: per request; None where it has none.
        slots: L.
        temperature: of the policy; above 0.
        salt: [B] noise of sampling; None is greedy.
        forced: [B, L] evaluate these lists instead; impossible ones get -inf.
        steps: gets each slot's log-probability [B] appended, 0 where the list has ended.

    Returns:
        lists [B, L], log-probabilities [B] in double precision.

    Raises:
        ConfigError: the ranker is not `stepwise`.
    """
    chooser = _Chooser(batch, constraints, temperature, salt, forced, steps)
    lists = ranker.decode_with(state, batch, slots, chooser)
    return lists, chooser.total


@dataclass(frozen=True)
class _Placed:
    """How many of the first `size` items of a list share a value with each candidate [N]."""

    size: int
    shared: NDArray[np.int64]


class _Chooser:
    """Picks one candidate per step and adds up the log-probabilities of its picks."""

    def __init__(
        self,
        batch: Batch,
        constraints: Sequence[Resolved | None],
        temperature: float,
        salt: Tensor | None,
        forced: Tensor | None,
        steps: list[Tensor] | None,
    ) -> None:
        self.steps = steps
        self.constraints, self.temperature = constraints, temperature
        self.salt, self.forced = salt, forced
        self.names = distinct(batch.candidates)
        self.prefix: list[list[int]] = [[] for _ in constraints]
        self.placed = [_Placed(0, np.zeros(1, np.int64)) for _ in constraints]
        self.total = torch.zeros(batch.size, dtype=torch.float64)

    def __call__(self, logits: Tensor, step: int) -> Tensor:
        masked = self._constrain(logits.squeeze(1).double(), step) / self.temperature
        ended = masked.isneginf().all(-1)
        log_p = masked.masked_fill(ended.unsqueeze(-1), 0.0).log_softmax(-1)
        pick = self._pick(masked, ended, step)
        chosen = log_p.gather(-1, pick.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        # A list that ends early, or goes on where nothing is allowed, is impossible.
        wrong = (pick >= 0) == ended
        chosen = torch.where(ended, 0.0, chosen).masked_fill(wrong, -torch.inf).cpu()
        self.total += chosen
        if self.steps is not None:
            self.steps.append(chosen)
        for prefix, at in zip(self.prefix, pick.tolist()):
            if at >= 0:
                prefix.append(at)
        return pick.unsqueeze(1)

    def _pick(self, masked: Tensor, ended: Tensor, step: int) -> Tensor:
        if self.forced is not None:
            return self.forced[:, step]
        if self.salt is not None:
            masked = masked + gumbel(self.salt, self.names, 1, step, named=True).squeeze(1)
        return masked.argmax(-1).masked_fill(ended, -1)

    def _shared(self, row: int, groups: list[frozenset[Any]]) -> NDArray[np.int64]:
        """Number [N] of placed candidates that share a value with each candidate."""
        placed, prefix = self.placed[row], self.prefix[row]
        for at in prefix[placed.size :]:
            placed = _Placed(placed.size + 1, placed.shared + _shares(groups, at))
        self.placed[row] = placed
        return np.broadcast_to(placed.shared, len(groups))

    def _constrain(self, logits: Tensor, step: int) -> Tensor:
        """Logits [B, N] minus the diversity weight, -inf at forbidden candidates."""
        n = logits.shape[-1]
        forbidden = np.zeros((len(self.constraints), n), np.bool_)
        penalty = np.zeros((len(self.constraints), n))
        for row, resolved in enumerate(self.constraints):
            if resolved is None:
                continue
            compiled, lookahead = resolved
            prefix, size = self.prefix[row], len(compiled.allowed)
            # A prefix shorter than the step has ended.
            if len(prefix) < step:
                forbidden[row] = True
                continue
            forbidden[row, :size] = ~lookahead.mask(prefix)
            if compiled.groups is not None and prefix:
                penalty[row, :size] = compiled.weight * self._shared(row, compiled.groups)
        logits = logits - torch.from_numpy(penalty).to(logits.device)
        return logits.masked_fill(torch.from_numpy(forbidden).to(logits.device), -torch.inf)


def _shares(groups: list[frozenset[Any]], at: int) -> NDArray[np.int64]:
    """1 for each candidate [N] that shares a value with one of them."""
    return np.array([not values.isdisjoint(groups[at]) for values in groups], np.int64)
