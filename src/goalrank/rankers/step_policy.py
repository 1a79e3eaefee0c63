"""Policies that fill a list slot by slot: what decoding, sampling and likelihood share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from goalrank.nn import divisor, gumbel, request_salt
from goalrank.rankers.base import Choose, Ranker, at_next, open_slot
from goalrank.requests import Batch


class StepPolicy(Ranker):
    """π(l) = Π_t softmax_i(logits_t(i | l_<t)) over the candidates not yet placed.

    A class says where decoding starts (`begin`), the logits of the candidates at a slot
    (`step_logits`) and how a placed candidate changes the decoding state (`advance`); the rest
    follows. Placed candidates get -inf here.
    """

    stepwise = True

    @abstractmethod
    def begin(self, state: Any, lists: int, slots: int) -> Any:
        """Return the decoding state of G empty lists per request."""

    @abstractmethod
    def step_logits(self, state: Any, hidden: Any, step: int) -> Tensor:
        """Compute the logits [B, G, N] of the candidates at slot `step`; -inf where padded."""

    @abstractmethod
    def advance(self, state: Any, hidden: Any, picked: Tensor, step: int) -> Any:
        """Return the decoding state after candidates [B, G] were placed at slot `step`."""

    def roll_out(self, state: Any, lists: int, slots: int, choose: Choose) -> tuple[Tensor, Tensor]:
        """Fill G lists per request slot by slot.

        Args:
            state: result of the ranker's `encode`.
            lists: G.
            slots: L.
            choose: called once per slot, with logits [B, G, N], -inf where padded or placed.

        Returns:
            picks [B, G, L] and the logits [B, G, T, N] they came from, T = min(L, N).
        """
        hidden = self.begin(state, lists, slots)
        taken: Tensor | None = None
        picks: list[Tensor] = []
        seen: list[Tensor] = []
        step = 0
        while True:
            logits = self.step_logits(state, hidden, step)
            if taken is None:
                taken = torch.zeros_like(logits, dtype=torch.bool)
            logits = logits.masked_fill(taken, -torch.inf)
            pick = choose(logits, step)
            picks.append(pick)
            seen.append(logits)
            step += 1
            if step >= min(slots, logits.shape[-1]):
                break
            at = pick.clamp_min(0).unsqueeze(-1)
            taken = taken.scatter(-1, at, taken.gather(-1, at) | (pick >= 0).unsqueeze(-1))
            hidden = self.advance(state, hidden, pick.clamp_min(0), step - 1)
        out = torch.stack(picks, -1)
        return F.pad(out, (0, slots - out.shape[-1]), value=-1), torch.stack(seen, 2)

    def best(self, state: Any, batch: Batch, slots: int) -> Tensor:
        """Return the greedy lists [B, L]: the most probable candidate at each slot."""
        return self.roll_out(state, 1, slots, lambda logits, _: _argmax(logits))[0].squeeze(1)

    def decode_with(self, state: Any, batch: Batch, slots: int, choose: Choose) -> Tensor:
        """Fill one list per request slot by slot, [B, L], with a choice made from outside."""
        return self.roll_out(state, 1, slots, choose)[0].squeeze(1)

    def draw(
        self,
        state: Any,
        batch: Batch,
        lists: int,
        slots: int,
        rng: torch.Generator,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw lists [B, G, L] slot by slot."""
        # Gumbel-max at every step draws exactly from the step's softmax.
        salt = request_salt(batch.key, rng)

        def choose(logits: Tensor, step: int) -> Tensor:
            return _argmax(logits / temperature + gumbel(salt, batch.candidates, lists, step))

        return self.roll_out(state, lists, slots, choose)[0]

    def forced_logits(self, state: Any, lists: Tensor) -> Tensor:
        """Compute logits [B, G, T, N] at each slot of lists [B, G, L], after their own prefixes."""
        return self.roll_out(state, lists.shape[1], lists.shape[2], lambda _, t: lists[..., t])[1]

    def slot_log_prob(
        self, state: Any, batch: Batch, lists: Tensor, temperature: float = 1.0
    ) -> Tensor:
        """Compute the log-probability [B, G, L] of each slot's candidate; 0 where empty."""
        logits = self.forced_logits(state, lists) / temperature
        steps = logits.shape[2]
        at, real = lists[..., :steps].clamp_min(0), lists[..., :steps] >= 0
        logits = logits.masked_fill(~real.unsqueeze(-1), 0.0)
        picked = logits.gather(-1, at.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
        return F.pad(picked * real, (0, lists.shape[-1] - steps))

    def list_log_prob(
        self, state: Any, batch: Batch, lists: Tensor, temperature: float = 1.0
    ) -> Tensor:
        """Compute the log-probabilities [B, G] of lists [B, G, L]: the sum over their slots."""
        return self.slot_log_prob(state, batch, lists, temperature).sum(-1)

    def next_log_prob(self, state: Any, batch: Batch, prefix: Tensor) -> Tensor:
        """Compute the log-probability [B, N] of each candidate after a prefix [B, T]."""
        return at_next(self.forced_logits(state, open_slot(prefix)[:, None])[:, 0, -1])


def _argmax(logits: Tensor) -> Tensor:
    best, pick = logits.max(-1)
    return pick.masked_fill(best == -torch.inf, -1)


def remaining_cross_entropy(logits: Tensor, lists: Tensor, relevance: Tensor) -> Tensor:
    """Σ_t w_t · cross-entropy of each slot's softmax with the labels still to be placed.

    Labels of candidates placed earlier count 0 and the rest are normalised; w_t = 1/log2(t + 2).
    Slots with nothing relevant left are skipped.

    Args:
        logits: [B, T, N] after the prefixes of `lists`.
        lists: [B, L].
        relevance: [B, N] ≥ 0, 0 where it must not count.

    Returns:
        Mean over requests with a positive (a scalar; 0 if none).
        Source: Seq2Slate (arXiv 1810.02019), the supervised loss.
    """
    left = relevance
    total = logits.new_zeros(len(logits))
    weights = 0.0
    for t in range(logits.shape[1]):
        none = logits[:, t].isneginf().all(-1, keepdim=True)
        log_p = logits[:, t].masked_fill(none, 0.0).log_softmax(-1)
        amount = left.sum(-1)
        # -inf occurs only at candidates without relevance left (placed or padded).
        gain = torch.where(left > 0, left * log_p, torch.zeros_like(left)).sum(-1)
        weight = 1.0 / float(torch.log2(torch.tensor(t + 2.0)))
        weights += weight
        each = -gain / amount.clamp_min(1e-12)
        total = total + torch.where(amount > 0, weight * each, torch.zeros_like(each))
        placed = lists[:, t].clamp_min(0)[:, None]
        left = left.scatter(1, placed, left.gather(1, placed) * (lists[:, t] < 0)[:, None])
    has = relevance.sum(-1) > 0
    return (total * has).sum() / divisor(has.sum()) / max(weights, 1e-12)
