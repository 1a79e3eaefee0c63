"""The pointer decoder: a state made of the prefix points at candidates that are encoded once.

A decoding step costs one small network, one product with the candidates, and the prefix parts of
the candidate just placed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goalrank.nn import FeedForward, Linear, at_least_single, linear, take_rows, zeroed


@dataclass(eq=False)
class Memory:
    """An encoded request, ready for decoding; computed once.

    Attributes:
        candidates: [B, N, D] encoded.
        start: [B, D] the user's context.
        bias: [B, N] score of a candidate before any prefix; -inf where padded or blocked.
        parts: [B, N, 4D] per candidate: what it adds to a prefix that it is placed in, attention
            query and key (D/2 each), value and relation (D each); and the pointer key [D] that a
            state points at. Without gradients None until `PointerDecoder.all_parts` is called:
            greedy decoding places few candidates, and uses `pointer_query` instead.
    """

    candidates: Tensor
    start: Tensor
    bias: Tensor
    parts: Tensor | None = None


class PointerDecoder(nn.Module):
    """p(l_t = i | l_<t): a state made of the prefix points at the candidates.

    The state at step t attends to the prefix (keys and values are per-candidate and cached), adds
    the plain sum of the prefix's values, and passes a small network. The pointer also sees a
    direct sum of pairwise relations between a candidate and those already placed, so that
    likeness within the list needs no depth to be learned.
    """

    def __init__(self, width: int, slots: int, dropout: float = 0.0, ratio: int = 2) -> None:
        super().__init__()
        d = width
        self.width = d
        self.parts = Linear(d, 4 * d)
        self.bias = zeroed(nn.Linear(d, 1))
        self.start = Linear(d, d)
        self.first = nn.Parameter(torch.zeros(d))
        self.position = nn.Parameter(torch.randn(slots, d) * 0.02)
        self.key_position = nn.Parameter(torch.randn(slots, d // 2) * 0.02)
        self.norm = nn.LayerNorm(d)
        self.feed_forward = FeedForward(d, ratio, dropout)
        self.norm_out = nn.LayerNorm(d)
        with torch.no_grad():  # the pointer begins at 0, so that the scores from outside decide
            self.parts.weight[3 * d :] = 0.0
            self.parts.bias[3 * d :] = 0.0

    def keys_values(
        self, candidates: Tensor, context: Tensor, allowed: Tensor, scores: Tensor
    ) -> Memory:
        """Precompute what decoding needs.

        Args:
            candidates: [B, N, D] encoded.
            context: [B, D] the user's context.
            allowed: [B, N] False where padded or blocked.
            scores: [B, N] added to the logits of every slot.
        """
        bias = at_least_single(self.bias(candidates).squeeze(-1)) + scores
        bias = bias.masked_fill(~allowed, -torch.inf)
        memory = Memory(candidates, self.start(context), bias)
        if torch.is_grad_enabled():
            self.all_parts(memory)
        return memory

    def all_parts(self, memory: Memory) -> Tensor:
        """Compute `Memory.parts` of all candidates and keep them there."""
        if memory.parts is None:
            memory.parts = self.parts(memory.candidates)
        return memory.parts

    def prefix_parts(self, candidates: Tensor) -> Tensor:
        """Compute what encoded candidates [.., D] add to a prefix: the first 3D of their parts."""
        rows = slice(3 * self.width)
        return linear(candidates, self.parts.weight[rows], self.parts.bias[rows])

    def pointer_query(self, state: Tensor) -> Tensor:
        """Map a state [.., D] to q with candidate · q = pointer key · state.

        The bias of the keys is left out: it adds the same to all candidates and so changes no
        probability.
        """
        return state @ self.parts.weight[3 * self.width :]

    def split(self, parts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Query [.., D/2], key [.., D/2], value, relation, pointer key [.., D]."""
        half = self.width // 2
        query, key, value, relation, pointer = parts.split(
            [half, half, self.width, self.width, self.width], -1
        )
        return query, key, value, relation, pointer

    def _slot(self, table: Tensor, slots: int) -> Tensor:
        """Take rows of a slot table; slots beyond those trained share the last one's row."""
        if slots <= len(table):
            return table[:slots]
        at = torch.arange(slots, device=table.device).clamp_max(len(table) - 1)
        return table[at]

    def state(self, memory: Memory, mixed: Tensor, position: Tensor, relation: Tensor) -> Tensor:
        """Compute the pointer vector [B, G, T, D] from the prefix's mixed values [B, G, T, D]."""
        x = self.norm(mixed + position + memory.start[:, None, None, :])
        x = x + self.feed_forward(x)
        out: Tensor = self.norm_out(x) + relation
        return out

    def forward(self, memory: Memory, lists: Tensor) -> Tensor:
        """Compute logits [B, G, L, N] of every slot given its true prefix, for all lists at once.

        Candidates already in the prefix get -inf. The sums over a prefix (values, relations) are
        one product of its weights over the candidates with the candidates' own vectors, so that
        no vector is copied per slot; the empty prefix is computed once for all lists.
        """
        b, g, slots = lists.shape
        n = memory.bias.shape[1]
        query, key, value, relation, pointer = self.split(self.all_parts(memory))
        pointer = pointer.transpose(1, 2)
        position = self._slot(self.position, slots)
        first = self.first.expand(b, 1, 1, -1)
        start = self.state(memory, first, position[:1], torch.zeros_like(first)).flatten(1, 2)
        logits = at_least_single(start @ pointer).unsqueeze(1).expand(b, g, 1, n)
        taken = None
        if slots > 1:
            at, real = lists[..., :-1].clamp_min(0), lists[..., :-1] >= 0
            key_position = self._slot(self.key_position, slots - 1)
            weight = _causal_weights(query, key, key_position, at)
            weights, taken = _prefix_weights(weight, at, real, n)
            mixed = (weights @ value).view(b, g, slots - 1, -1)
            related = (taken.to(relation.dtype) @ relation).view(b, g, slots - 1, -1)
            state = self.state(memory, mixed, position[1:], related)
            later = at_least_single(state.flatten(1, 2) @ pointer).view(b, g, slots - 1, n)
            logits = torch.cat([logits, later], 2)
        logits = torch.add(memory.bias[:, None, None, :], logits, alpha=self.width**-0.5)
        if taken is not None:
            placed = F.pad(taken.view(b, g, slots - 1, n) > 0, (0, 0, 1, 0))
            logits = logits.masked_fill(placed, -torch.inf)
        return logits


class PrefixState:
    """Decoding state of [B, G] lists: the key-value cache and a running sum of relations."""

    def __init__(self, decoder: PointerDecoder, memory: Memory, lists: int, steps: int) -> None:
        b, n, d = memory.candidates.shape
        self.decoder, self.lists = decoder, lists
        if lists > 1 and lists * steps >= n:  # most are needed anyway, some twice
            decoder.all_parts(memory)
        self.ready = memory.parts is not None
        rows = memory.candidates if memory.parts is None else memory.parts
        self.rows = rows.flatten(0, 1)
        self.pointer = rows[..., -d:].transpose(1, 2)  # or the candidates themselves
        self.offset = torch.arange(b, device=rows.device)[:, None] * n
        # Added at each step, with the prefix, [T, B, 1, D]; keys get their slot's position.
        position = decoder._slot(decoder.position, steps)[:, None, None, :]
        self.step_offset = position + memory.start[:, None, :]
        self.key_position = F.pad(decoder._slot(decoder.key_position, steps), (0, d))
        self.cache = self.rows.new_empty(b * lists, steps, d // 2 + d)
        self.related: Tensor | None = None  # [B·G, D]

    def first(self) -> Tensor:
        """Compute the state [B, 1, D] of the first step, the same for all lists."""
        return self._state(self.decoder.first + self.step_offset[0])

    def point(self, state: Tensor, scores: Tensor) -> Tensor:
        """Compute logits [B, G, N] of the next slot, up to a constant: scores + state · keys / √D."""
        state = state if self.ready else self.decoder.pointer_query(state)
        return _pointer_logits(state, self.pointer, scores, self.decoder.width**-0.5)

    def after(self, pick: Tensor, t: int) -> Tensor:
        """Compute the state [B, G, D] after the candidates [B, G] were placed at slot t."""
        d, half, b = self.decoder.width, self.decoder.width // 2, pick.shape[0]
        rows = self.rows.index_select(0, (pick + self.offset).view(-1))
        if not self.ready:
            rows = self.decoder.prefix_parts(rows)
        torch.add(rows[:, half : 2 * d], self.key_position[t], out=self.cache[:, t])
        keys, values = self.cache[:, : t + 1].split([half, d], -1)
        query, relation = rows[:, None, :half], rows[:, 2 * d : 3 * d]
        self.related = relation if self.related is None else self.related + relation
        # The prefix's values: their attention-weighted mean and their sum.
        weight = (torch.bmm(query, keys.transpose(1, 2)) * half**-0.5).softmax(-1) + 1
        mixed = torch.bmm(weight, values).view(b, self.lists, d)
        state = self._state(mixed + self.step_offset[t + 1])
        return state + self.related.view(b, self.lists, d)

    def _state(self, mixed: Tensor) -> Tensor:
        x = self.decoder.norm(mixed)
        out: Tensor = self.decoder.norm_out(x + self.decoder.feed_forward(x))
        return out


def _pointer_logits(state: Tensor, pointer: Tensor, scores: Tensor, scale: float) -> Tensor:
    """Logits scores + scale · state @ pointer, [B, G, N]; a state [B, 1, D] is shared by all G lists."""
    if state.shape[1] == scores.shape[1] and state.dtype == scores.dtype == pointer.dtype:
        return torch.baddbmm(scores, state, pointer, alpha=scale)
    return torch.add(scores, at_least_single(state @ pointer), alpha=scale)


def _causal_weights(query: Tensor, key: Tensor, position: Tensor, at: Tensor) -> Tensor:
    """Attention of each of T slots to itself and those before: [B, G, T, T], rows sum to one.

    Args:
        query: [B, N, D/2] of the candidates.
        key: [B, N, D/2] of the candidates.
        position: [T, D/2] added to the key of each slot.
        at: [B, G, T] candidate at each slot.
    """
    b, g, t = at.shape
    n = query.shape[1]
    if n <= g * t:  # scores of all pairs of candidates are fewer: compute them and look them up
        keys = torch.cat([key, position.to(key.dtype).expand(b, -1, -1)], 1)
        pairs = (query @ keys.transpose(1, 2)).view(b, -1)
        row = at.unsqueeze(-1) * (n + t)
        slot = torch.arange(n, n + t, device=at.device)
        by_item = pairs.gather(1, (row + at.unsqueeze(-2)).view(b, -1))
        by_slot = pairs.gather(1, (row + slot).view(b, -1))
        scores = (by_item + by_slot).view(b, g, t, t)
    else:
        rows = at.view(b, g * t)
        asked = take_rows(query, rows).view(b, g, t, -1)
        keys = take_rows(key, rows).view(b, g, t, -1) + position
        scores = asked @ keys.transpose(-1, -2)
    later = torch.ones(t, t, dtype=torch.bool, device=at.device).triu(1)
    out: Tensor = (scores * query.shape[-1] ** -0.5).masked_fill(later, -torch.inf).softmax(-1)
    return out


def _prefix_weights(weight: Tensor, at: Tensor, real: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Write each prefix as weights over the candidates.

    Args:
        weight: [B, G, T, T] of slots s ≤ t in the state after slot t.
        at: [B, G, T] candidate at each slot.
        real: [B, G, T] False where a slot is empty.
        n: N.

    Returns:
        Both [B, G·T, N]: 1 + weight, and 1, at the candidates of slots 0…t; 0 elsewhere.
    """
    b, g, t = at.shape
    after, slot = torch.tril_indices(t, t, device=at.device)
    index = after * n + at[..., slot]
    there = real[..., slot].to(weight.dtype)
    flat = weight.new_zeros(b, g, t * n)
    weights = flat.scatter_add(2, index, (weight[..., after, slot] + 1) * there)
    taken = flat.scatter_add(2, index, there)
    return weights.view(b, g * t, n), taken.view(b, g * t, n)
