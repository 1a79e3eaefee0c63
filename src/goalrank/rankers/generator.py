"""The GoalRank policy: an autoregressive pointer over candidates that are encoded once.

Source: GoalRank (arXiv 2509.22046), section on the generator; any sequence generator may stand
there. This one precomputes, per candidate, all that a decoding step needs of it, so that a step
costs one small network and one product with the candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goalrank.encoders import EncoderSizes, RequestEncoder
from goalrank.nn import FeedForward, at_least_single, gumbel, request_salt, take_rows
from goalrank.rankers.base import Ranker, top_slots
from goalrank.requests import Batch, InputSpec


class Memory(NamedTuple):
    """What decoding needs of a request; computed once.

    Attributes:
        parts: [B, N, 4D] per candidate: attention query and key (D/2 each), value, relation,
            pointer key (D each).
        start: [B, D] the user's context.
        bias: [B, N] score of a candidate before any prefix; -inf where padded or blocked.
    """

    parts: Tensor
    start: Tensor
    bias: Tensor


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
        self.parts = nn.Linear(d, 4 * d)
        self.bias = nn.Linear(d, 1)
        self.start = nn.Linear(d, d)
        self.first = nn.Parameter(torch.zeros(d))
        self.position = nn.Parameter(torch.randn(slots, d) * 0.02)
        self.key_position = nn.Parameter(torch.randn(slots, d // 2) * 0.02)
        self.norm = nn.LayerNorm(d)
        self.feed_forward = FeedForward(d, ratio, dropout)
        self.norm_out = nn.LayerNorm(d)

    def remember(self, candidates: Tensor, context: Tensor, allowed: Tensor) -> Memory:
        """Precompute from candidates [B, N, D], context [B, D] and allowed [B, N]."""
        bias = at_least_single(self.bias(candidates).squeeze(-1)).masked_fill(~allowed, -torch.inf)
        return Memory(self.parts(candidates), self.start(context), bias)

    def split(self, parts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Query [.., D/2], key [.., D/2], value, relation, pointer key [.., D]."""
        half = self.width // 2
        query, key, value, relation, pointer = parts.split(
            [half, half, self.width, self.width, self.width], -1
        )
        return query, key, value, relation, pointer

    def _slot(self, table: Tensor, slots: int) -> Tensor:
        """Rows of a slot table; slots beyond those trained share the last one's row."""
        at = torch.arange(slots, device=table.device).clamp_max(len(table) - 1)
        return table[at]

    def state(self, memory: Memory, mixed: Tensor, position: Tensor, relation: Tensor) -> Tensor:
        """Pointer vector [B, G, T, D] from what the prefix gave, mixed [B, G, T, D]."""
        x = self.norm(mixed + position + memory.start[:, None, None, :])
        x = x + self.feed_forward(x)
        return self.norm_out(x) + relation

    def forward(self, memory: Memory, lists: Tensor) -> Tensor:
        """Logits [B, G, L, N] of every slot given its true prefix; one pass for all lists.

        Candidates already in the prefix get -inf.
        """
        b, g, slots = lists.shape
        n = memory.bias.shape[1]
        at = lists.clamp_min(0)
        real = (lists >= 0).unsqueeze(-1)
        chosen = take_rows(memory.parts[..., : 3 * self.width], at.view(b, g * slots))
        chosen = chosen.view(b, g, slots, -1) * real
        query, key, value, relation = chosen.split(
            [self.width // 2, self.width // 2, self.width, self.width], -1
        )
        # Step t sees slots 0…t-1, and asks with the item at slot t-1.
        key = key + self._slot(self.key_position, slots)
        attended = _causal(query[..., :-1, :], key[..., :-1, :], value[..., :-1, :])
        summed = value[..., :-1, :].cumsum(2)
        first = self.first.expand(b, g, 1, -1)
        mixed = torch.cat([first.to(value.dtype), attended + summed], 2)
        related = F.pad(relation[..., :-1, :].cumsum(2), (0, 0, 1, 0))
        state = self.state(memory, mixed, self._slot(self.position, slots), related)
        pointer = memory.parts[..., 3 * self.width :]
        logits = state.reshape(b, g * slots, -1) @ pointer.transpose(1, 2)
        logits = at_least_single(logits.view(b, g, slots, n)) * self.width**-0.5
        logits = logits + memory.bias[:, None, None, :]
        return logits.masked_fill(_taken_before(lists, n), -torch.inf)


class _Prefix(NamedTuple):
    """Decoding state of [B, G] lists: the key-value cache and running sums."""

    query: Tensor  # [B, G, D/2]
    keys: Tensor  # [B, G, t, D/2]
    values: Tensor  # [B, G, t, D]
    summed: Tensor  # [B, G, D]
    related: Tensor  # [B, G, D]


class Generator(Ranker):
    """GoalRank's one model: encoder once a request, pointer decoder over its candidates.

    Args:
        spec: input sizes.
        sizes: of the encoder.
        slots: L for which slot vectors are trained; longer lists share the last one's.
        ratio: width of the decoder's network over D.
        beam: 1 decodes greedily; W > 1 keeps the W most probable prefixes.
    """

    def __init__(
        self, spec: InputSpec, sizes: EncoderSizes, slots: int = 6, ratio: int = 2, beam: int = 1
    ) -> None:
        super().__init__()
        self.beam = beam
        self.encoder = RequestEncoder(spec, sizes)
        self.decoder = PointerDecoder(sizes.width, slots, sizes.dropout, ratio)

    def encode(self, batch: Batch) -> Memory:
        encoded = self.encoder(batch)
        return self.decoder.remember(encoded.candidates, encoded.context, batch.candidate_mask)

    def list_log_prob(
        self, state: Memory, batch: Batch, lists: Tensor, temperature: float = 1.0
    ) -> Tensor:
        logits = self.decoder(state, lists) / temperature
        real = lists >= 0
        # A slot after the list's end may have no candidate left; its -inf must not reach the sum.
        logits = logits.masked_fill(~real.unsqueeze(-1), 0.0)
        at = lists.clamp_min(0).unsqueeze(-1)
        picked = logits.gather(-1, at).squeeze(-1) - logits.logsumexp(-1)
        return (picked * real).sum(-1)

    def best(self, state: Memory, batch: Batch, slots: int) -> Tensor:
        if self.beam > 1:
            return self.beam_search(state, slots, self.beam)[0][:, 0]
        return self.decode(state, slots).squeeze(1)

    def draw(
        self,
        state: Memory,
        batch: Batch,
        lists: int,
        slots: int,
        rng: torch.Generator,
        temperature: float = 1.0,
    ) -> Tensor:
        # Gumbel-max at every step draws exactly from the step's softmax.
        salt = request_salt(batch.key, rng)

        def perturb(logits: Tensor, step: int) -> Tensor:
            return logits / temperature + gumbel(salt, batch.candidates, lists, step)

        return self.decode(state, slots, lists, perturb)

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Supervised: cross-entropy of the list of best-liked candidates, slot by slot.

        Requests without a positive candidate are left out.
        """
        return self.supervised_loss(self.encode(batch), batch, slots)

    def supervised_loss(self, state: Memory, batch: Batch, slots: int) -> Tensor:
        """`loss` from an encoded batch."""
        relevance = batch.relevance.masked_fill(~batch.candidate_mask, -1.0)
        # Among equally liked candidates any order is right; follow the policy's own preference.
        keys = relevance * 1e3 + state.bias.detach().clamp(-50, 50)
        target = top_slots(keys, batch.candidate_mask & (relevance > 0), slots)
        log_prob = self.list_log_prob(state, batch, target.unsqueeze(1)).squeeze(1)
        length = (target >= 0).sum(-1)
        has = length > 0
        return -(log_prob / length.clamp_min(1) * has).sum() / has.sum().clamp_min(1)

    def decode(
        self,
        memory: Memory,
        slots: int,
        lists: int = 1,
        perturb: Callable[[Tensor, int], Tensor] | None = None,
    ) -> Tensor:
        """Greedy lists [B, G, L] of (perturbed) logits; a step reuses all earlier work."""
        decoder = self.decoder
        query, key, value, relation, pointer = decoder.split(memory.parts)
        pointer = pointer.transpose(1, 2)
        b, n = memory.bias.shape
        position = decoder._slot(decoder.position, slots)
        key_position = decoder._slot(decoder.key_position, slots)
        scores = memory.bias[:, None, :].expand(b, lists, n)
        prefix: _Prefix | None = None
        out = []
        scale = decoder.width**-0.5
        offset = torch.arange(b, device=scores.device)[:, None] * n
        flat = [t.reshape(b * n, -1) for t in (query, key, value, relation)]
        for t in range(min(slots, n)):
            mixed, related = _mixed(decoder, prefix, b, lists, scores)
            state = decoder.state(memory, mixed.unsqueeze(2), position[t], related.unsqueeze(2))
            logits = at_least_single(state.squeeze(2) @ pointer) * scale + scores
            if perturb is not None:
                logits = perturb(logits, t)
            best, pick = logits.max(-1)
            out.append(pick.masked_fill(best == -torch.inf, -1))
            scores = scores.scatter(2, pick.unsqueeze(-1), -torch.inf)
            prefix = _extend(prefix, flat, pick + offset, key_position[t])
        result = torch.stack(out, -1)
        return F.pad(result, (0, slots - result.shape[-1]), value=-1)

    def beam_search(self, state: Memory, slots: int, width: int) -> tuple[Tensor, Tensor]:
        """The W most probable lists that a beam finds, best first.

        Returns:
            lists [B, W, L] and their log-probabilities [B, W] (-inf where fewer than W exist).
        """
        b, n = state.bias.shape
        steps = min(slots, n)
        lists = torch.full((b, 1, slots), -1, dtype=torch.long, device=state.bias.device)
        total = state.bias.new_zeros(b, 1)
        for t in range(steps):
            logits = self.decoder(state, lists[..., : t + 1])[..., t, :]  # [B, W, N]
            over = torch.isneginf(logits).all(-1, keepdim=True)
            step = logits.log_softmax(-1).masked_fill(over, -torch.inf)
            # A finished list (no candidate left) goes on as it is, through candidate 0.
            step = torch.where(over & (torch.arange(n, device=step.device) == 0), 0.0, step)
            scores = (total.unsqueeze(-1) + step).flatten(1)
            keep = min(width, scores.shape[1])
            total, at = scores.topk(keep, -1)
            parent, pick = at // n, at % n
            lists = lists.gather(1, parent.unsqueeze(-1).expand(-1, -1, slots))
            ended = over.squeeze(-1).gather(1, parent)
            lists[..., t] = pick.masked_fill(ended, -1)
        return lists, total


def _mixed(
    decoder: PointerDecoder, prefix: _Prefix | None, b: int, lists: int, like: Tensor
) -> tuple[Tensor, Tensor]:
    if prefix is None:
        first = decoder.first.expand(b, lists, -1)
        return first, torch.zeros_like(first)
    scores = (prefix.keys @ prefix.query.unsqueeze(-1)).squeeze(-1)
    weight = (scores * prefix.query.shape[-1] ** -0.5).softmax(-1)
    attended = (weight.unsqueeze(-2) @ prefix.values).squeeze(-2)
    return attended + prefix.summed, prefix.related


def _extend(prefix: _Prefix | None, flat: list[Tensor], rows: Tensor, position: Tensor) -> _Prefix:
    query, key, value, relation = (part[rows] for part in flat)
    key = (key + position).unsqueeze(2)
    if prefix is None:
        return _Prefix(query, key, value.unsqueeze(2), value, relation)
    return _Prefix(
        query,
        torch.cat([prefix.keys, key], 2),
        torch.cat([prefix.values, value.unsqueeze(2)], 2),
        prefix.summed + value,
        prefix.related + relation,
    )


def _causal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Single-head attention of each of T positions to itself and those before, [B, G, T, ·]."""
    t = query.shape[2]
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    later = torch.ones(t, t, dtype=torch.bool, device=query.device).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(-1) @ value


def _taken_before(lists: Tensor, n: int) -> Tensor:
    """[B, G, L, N] True where a candidate stands in an earlier slot."""
    b, g, slots = lists.shape
    one_hot = torch.zeros(b, g, slots, n, dtype=torch.int8, device=lists.device)
    one_hot.scatter_(3, lists.clamp_min(0).unsqueeze(-1), (lists >= 0).to(torch.int8).unsqueeze(-1))
    return (one_hot.cumsum(2, dtype=torch.int8) - one_hot).bool()
