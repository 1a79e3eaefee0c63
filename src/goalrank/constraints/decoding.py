"""Constrained decoding: any step-wise policy, masked at every slot to what rules allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from goalrank.constraints.constraints import CompiledConstraints
from goalrank.constraints.feasibility import Lookahead
from goalrank.errors import ConfigError
from goalrank.nn import distinct, gumbel
from goalrank.rankers import Generator, Ranker, Scorer, StepPolicy
from goalrank.requests import Batch

Resolved = tuple[CompiledConstraints, Lookahead]
Choose = Callable[[Tensor, int], Tensor]


def stepwise(ranker: Ranker) -> bool:
    """Whether a ranker's policy is a product of per-slot softmaxes that can be masked."""
    return isinstance(ranker, Generator | Scorer | StepPolicy)


def constrained_lists(
    ranker: Ranker | None,
    state: Any,
    batch: Batch,
    plans: Sequence[Resolved | None],
    slots: int,
    *,
    temperature: float = 1.0,
    salt: Tensor | None = None,
    forced: Tensor | None = None,
    steps: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Lists and their exact log-probability under the masked policy.

    π(l) = Π_t softmax over the allowed of (logits_t − diversity) / temperature. The allowed are
    those after which the list can still be completed, so that no probability is lost in dead ends.

    Args:
        ranker: None takes the state for scores [B, N].
        state: what the ranker's `encode` gave.
        plans: a request's rules, None where it has none.
        slots: L.
        salt: [B] noise of sampling; None is greedy.
        forced: [B, L] evaluate these lists instead; impossible ones get -inf.
        steps: gets each slot's log-probability [B] appended, 0 where the list has ended.

    Returns:
        lists [B, L], log-probabilities [B] in double precision.

    Raises:
        ConfigError: a ranker whose policy has no steps.
    """
    chooser = _Chooser(batch, plans, temperature, salt, forced, steps)
    if ranker is None or isinstance(ranker, Scorer):
        lists = _roll_scores(state, batch.candidate_mask, slots, chooser)
    elif isinstance(ranker, Generator):
        lists = _roll_generator(ranker, state, slots, chooser)
    elif isinstance(ranker, StepPolicy):
        lists = ranker.roll(state, 1, slots, chooser)[0].squeeze(1)
    else:
        raise ConfigError(
            f"ranker {type(ranker).__name__} chooses whole lists, so rules cannot mask its steps; "
            f"remedy: serve a generator or a scorer, or ask without rules"
        )
    return lists, chooser.total


def _roll_scores(scores: Tensor, mask: Tensor, slots: int, choose: Choose) -> Tensor:
    """Plackett-Luce slot by slot: [B, L]."""
    left = scores.masked_fill(~mask, -torch.inf).unsqueeze(1)
    picks = []
    for step in range(min(slots, left.shape[-1])):
        pick = choose(left, step)
        picks.append(pick)
        left = left.masked_fill(F.one_hot(pick.clamp_min(0), left.shape[-1]).bool(), -torch.inf)
    lists = torch.cat(picks, 1) if picks else scores.new_zeros((len(scores), 0)).long()
    return F.pad(lists, (0, slots - lists.shape[1]), value=-1)


def _roll_generator(ranker: Generator, state: Any, slots: int, choose: Choose) -> Tensor:
    """The generator's own cached decode; each step's logits are narrowed to the pick."""

    def narrow(logits: Tensor, step: int) -> Tensor:
        pick = choose(logits, step).unsqueeze(-1)
        only = torch.full_like(logits, -torch.inf)
        value = torch.where(pick >= 0, 0.0, -torch.inf).to(logits.dtype)
        return only.scatter(-1, pick.clamp_min(0), value)

    return ranker.decode(state, slots, 1, narrow).squeeze(1)


class _Chooser:
    """Picks one candidate a step and adds up the log-probability of what it picked."""

    def __init__(
        self,
        batch: Batch,
        plans: Sequence[Resolved | None],
        temperature: float,
        salt: Tensor | None,
        forced: Tensor | None,
        steps: list[Tensor] | None,
    ) -> None:
        self.steps = steps
        self.plans, self.temperature, self.salt, self.forced = plans, temperature, salt, forced
        self.names = distinct(batch.candidates)
        self.prefix: list[list[int]] = [[] for _ in plans]
        self.total = torch.zeros(batch.size, dtype=torch.float64)

    def __call__(self, logits: Tensor, step: int) -> Tensor:
        worth = self._constrain(logits.squeeze(1).double(), step) / self.temperature
        over = worth.isneginf().all(-1)
        log_p = worth.masked_fill(over.unsqueeze(-1), 0.0).log_softmax(-1)
        pick = self._pick(worth, over, step)
        chosen = log_p.gather(-1, pick.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        # A list that ends early, or goes on where nothing is allowed, is impossible.
        wrong = (pick >= 0) == over
        chosen = torch.where(over, 0.0, chosen).masked_fill(wrong, -torch.inf).cpu()
        self.total += chosen
        if self.steps is not None:
            self.steps.append(chosen)
        for prefix, at in zip(self.prefix, pick.tolist()):
            if at >= 0:
                prefix.append(at)
        return pick.unsqueeze(1)

    def _pick(self, worth: Tensor, over: Tensor, step: int) -> Tensor:
        if self.forced is not None:
            return self.forced[:, step]
        if self.salt is not None:
            worth = worth + gumbel(self.salt, self.names, 1, step, named=True).squeeze(1)
        return worth.argmax(-1).masked_fill(over, -1)

    def _constrain(self, worth: Tensor, step: int) -> Tensor:
        """Logits [B, N] with what rules forbid at -inf, and the diversity weight taken off."""
        n = worth.shape[-1]
        barred = np.zeros((len(self.plans), n), np.bool_)
        minus = np.zeros((len(self.plans), n))
        for row, settled in enumerate(self.plans):
            if settled is None:
                continue
            plan, look = settled
            prefix, size = self.prefix[row], len(plan.allowed)
            # A prefix shorter than the step has ended.
            if len(prefix) < step:
                barred[row] = True
                continue
            barred[row, :size] = ~look.mask(prefix)
            if plan.groups is not None and prefix:
                minus[row, :size] = plan.weight * np.array(_alike(plan.groups, prefix))
        worth = worth - torch.from_numpy(minus).to(worth.device)
        return worth.masked_fill(torch.from_numpy(barred).to(worth.device), -torch.inf)


def _alike(groups: list[frozenset[Any]], prefix: list[int]) -> list[int]:
    """[N] how many of the placed share a value with each candidate."""
    placed = [groups[at] for at in prefix]
    return [sum(not values.isdisjoint(other) for other in placed) for values in groups]
