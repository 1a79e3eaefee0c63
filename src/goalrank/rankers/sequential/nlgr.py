"""NLGR: neighbour lists for generative reranking (2025, arXiv 2502.06097)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.nn import at_least_single, gumbel, mlp, request_salt, take_rows, zeroed
from goalrank.rankers.base import top_slots
from goalrank.rankers.initial_order import known_candidates, pointwise_loss
from goalrank.rankers.step_policy import StepPolicy, remaining_cross_entropy
from goalrank.requests import Batch, InputSpec


class EditState(NamedTuple):
    """An encoded batch.

    Attributes:
        candidates: [B, N, D] encoded candidates.
        keys: [B, N, D] keys of the editor's pointer.
        context: [B, D] encoded user and history.
        first: [B, N] scores that order the first list.
        mask: [B, N] True for real candidates.
    """

    candidates: Tensor
    keys: Tensor
    context: Tensor
    first: Tensor
    mask: Tensor


class NLGR(StepPolicy):
    """A generator that starts from a sorted list and edits it slot by slot.

    At slot t the editor reads the current list without slot t (earlier slots are edited, later ones
    hold the first list) and points at the candidate to put there; pointing at the current candidate
    changes nothing. A candidate from a later slot swaps with the one it replaces, so that no
    candidate repeats. After the last slot every slot has been decided once, which gives a list's
    exact probability.

    Trained by the evaluator's reward differences between neighbouring lists
    (`goalrank.training.NeighbourTask`). `loss` is the warm start on labels: cross-entropy with the
    labels not yet placed, as for the other pointer networks, and binary cross-entropy of the first
    scores.

    Differences to the paper: its sampling-based editor chooses positions and candidates; here one
    sweep over the slots keeps probabilities exact. The first list is the order of an item-level
    score of this class.

    Args:
        spec: shapes of the batches.
        sizes: sizes of the network.
        slots: length of the first list, and slots with their own vector; later ones share the last.
    """

    def __init__(self, spec: InputSpec, sizes: EncoderSizes, slots: int = 6) -> None:
        super().__init__()
        d = sizes.width
        self.encoder = RequestEncoder(spec, sizes)
        self.wide = Wide(spec, probabilities=True)
        self.first = zeroed(nn.Linear(d, 1))
        self.key = zeroed(nn.Linear(d, d))
        self.value = nn.Linear(d, 3 * d)
        self.position = nn.Parameter(torch.randn(slots, d) * 0.1)
        self.editor = mlp(3 * d, 2 * d, d, dropout=sizes.dropout)
        self.norm = nn.LayerNorm(3 * d)

    def encode(self, batch: Batch) -> EditState:
        """Encode requests, and score the candidates for the first list."""
        encoded = self.encoder(batch)
        x = encoded.candidates
        first = at_least_single(self.first(x)) + self.wide(batch, encoded.plain)
        first = first.squeeze(-1)
        return EditState(x, self.key(x), encoded.context, first, batch.candidate_mask)

    def begin(self, state: EditState, lists: int, slots: int) -> Tensor:
        """The first list, sorted by the item scores, per drawn list: [B, G, max(L, slots)].

        It is as long as the network's slots however few are asked for: what is put at a slot then
        does not depend on how long the list is to become.
        """
        start = top_slots(state.first.detach(), state.mask, max(slots, len(self.position)))
        return start[:, None, :].expand(-1, lists, -1)

    def step_logits(self, state: EditState, hidden: Tensor, step: int) -> Tensor:
        """Logits [B, G, N] of the candidate to put at slot `step`."""
        b, g, slots = hidden.shape
        real = (hidden >= 0).clone()
        real[..., step] = False
        values = take_rows(self.value(state.candidates), hidden.clamp_min(0).view(b, -1))
        values = values.view(b, g, slots, -1) * real.unsqueeze(-1)
        near, far, relation = values.chunk(3, -1)  # of slots before, after and anywhere
        count = real.sum(-1, keepdim=True).clamp_min(1)
        before = near[:, :, :step].sum(2) / count
        after = far[:, :, step + 1 :].sum(2) / count
        slot_vector = self.position[min(step, len(self.position) - 1)]
        centre = (state.context + slot_vector)[:, None, :].expand(b, g, -1)
        query = self.editor(self.norm(torch.cat([centre, before, after], -1))) + relation.sum(2)
        logits = at_least_single(query @ state.keys.transpose(1, 2)) * query.shape[-1] ** -0.5
        logits = logits + state.first[:, None, :]
        out: Tensor = logits.masked_fill(~state.mask[:, None, :], -torch.inf)
        return out

    def advance(self, state: EditState, hidden: Tensor, picked: Tensor, step: int) -> Tensor:
        """Put the picked candidates [B, G] at slot `step`: lists [B, G, L]."""
        replaced = hidden[..., step : step + 1]
        # If the pick comes from a later slot, the replaced candidate goes there.
        swapped = torch.where(hidden == picked[..., None], replaced, hidden)
        at = torch.full_like(replaced, step)
        return swapped.scatter(-1, at, picked[..., None])

    def sweep(
        self,
        state: EditState,
        batch: Batch,
        lists: int,
        slots: int,
        upto: int,
        rng: torch.Generator,
    ) -> Tensor:
        """Edit slots 0…upto-1 by draws of the policy.

        Args:
            state: encoded batch.
            batch: B requests.
            lists: G.
            slots: L.
            upto: number of slots to edit, in 0..L.
            rng: source of randomness.

        Returns:
            [B, G, L] positions.
        """
        salt = request_salt(batch.key, rng)
        hidden = self.begin(state, lists, slots)
        for step in range(upto):
            logits = self.open_logits(state, hidden, step)
            value, pick = (logits + gumbel(salt, batch.candidates, lists, step)).max(-1)
            moved = self.advance(state, hidden, pick, step)
            hidden = torch.where(value.isneginf().unsqueeze(-1), hidden, moved)
        return hidden[..., :slots]

    def open_logits(self, state: EditState, hidden: Tensor, step: int) -> Tensor:
        """`step_logits` with -inf for the candidates of earlier slots.

        Args:
            state: encoded batch.
            hidden: [B, G, L] current lists.
            step: the slot to edit.

        Returns:
            [B, G, N].
        """
        logits = self.step_logits(state, hidden, step)
        taken = torch.zeros_like(logits, dtype=torch.bool)
        done = hidden[..., :step]
        taken.scatter_(-1, done.clamp_min(0), True)
        return logits.masked_fill(taken, -torch.inf)

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Supervised loss for the warm start, a scalar."""
        state = self.encode(batch)
        known = known_candidates(batch)
        open_state = state._replace(mask=known)
        with torch.no_grad():
            prefix = self.best(open_state, batch, slots)
        logits = self.forced_logits(open_state, prefix.unsqueeze(1)).squeeze(1)
        loss = remaining_cross_entropy(logits, prefix, batch.relevance.clamp_min(0) * known)
        return loss + pointwise_loss(state.first, batch)


def neighbours(lists: Tensor, slot: Tensor, others: Tensor) -> Tensor:
    """Lists that differ from given ones at one slot.

    Args:
        lists: [B, G, L] positions.
        slot: [B, G] the slot, below the list's length.
        others: [B, G, M] candidates to put there; one from another slot of the list swaps with the
            one it replaces.

    Returns:
        [B, G, M, L] positions.
    """
    m = others.shape[-1]
    repeated = lists[:, :, None, :].expand(-1, -1, m, -1)
    at = slot[:, :, None, None].expand(-1, -1, m, 1)
    replaced = repeated.gather(-1, at)
    swapped = torch.where(repeated == others[..., None], replaced, repeated)
    return swapped.scatter(-1, at, others[..., None])
