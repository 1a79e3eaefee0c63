"""Recurrent pointer networks: Seq2Slate and EGRank.

Sources: Bello et al., 2018, arXiv 1810.02019; Huzhang et al., 2020, arXiv 2003.11941.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.nn import at_least_single, take_rows, zeroed
from goalrank.rankers.history_vectors import run_packed
from goalrank.rankers.initial_order import initial_order, known_candidates, pointwise_loss
from goalrank.rankers.step_policy import StepPolicy, remaining_cross_entropy
from goalrank.requests import Batch, InputSpec


class PointerState(NamedTuple):
    """An encoded batch.

    Attributes:
        inputs: [B, N, D] inputs of the decoder after pointing at a candidate.
        keys: [B, N, D] keys of the pointer.
        start: hidden and cell state [B, D] after the encoder.
        mask: [B, N] True for real candidates.
        first: [B, N] scores that order the initial list; None where the retriever's do.
        wide: [B, N] linear scores, part of every slot's logits.
    """

    inputs: Tensor
    keys: Tensor
    start: tuple[Tensor, Tensor]
    mask: Tensor
    first: Tensor | None
    wide: Tensor


_Hidden = tuple[Tensor, Tensor]  # [B, G, D] each


class Seq2Slate(StepPolicy):
    """A generator with an LSTM that reads the initial list and one that points at candidates.

    p(l_t = i | l_<t) = softmax_i(v · tanh(W_e e_i + W_d d_t)) over the candidates not yet placed,
    e_i the encoder's output, d_t the decoder's. The supervised loss is, at every slot, the
    cross-entropy with the labels not yet placed, after the policy's own greedy prefix, with weights
    1/log2(t + 2).

    Differences to the paper: inputs are encodings with user and history (layers 0); the encoder
    LSTM has `sizes.layers` layers; without a retriever score, a first score that is trained jointly
    orders the initial list. The paper's alternative, a policy gradient on the list's reward, is one
    of the objectives that can train any ranker; see `EGRank` for PPO.

    Args:
        spec: shapes of the batches.
        sizes: sizes of the network.
    """

    def __init__(self, spec: InputSpec, sizes: EncoderSizes) -> None:
        super().__init__()
        d, depth = sizes.width, max(sizes.layers, 1)
        self.encoder = RequestEncoder(spec, replace(sizes, layers=0))
        self.wide = Wide(spec)
        self.first = None if spec.has_score else zeroed(nn.Linear(d, 1))
        self.reader = nn.LSTM(
            d, d, depth, batch_first=True, dropout=sizes.dropout if depth > 1 else 0.0
        )
        self.writer = nn.LSTMCell(d, d)
        self.go = nn.Parameter(torch.randn(d) * 0.02)
        self.key = nn.Linear(d, d)
        self.query = nn.Linear(d, d, bias=False)
        self.point = zeroed(nn.Linear(d, 1, bias=False))

    def encode(self, batch: Batch) -> PointerState:
        """Encode requests and read the initial list."""
        encoded = self.encoder(batch)
        x = encoded.candidates
        wide = self.wide(batch, encoded.plain).squeeze(-1)
        first = None
        if self.first is not None:  # it has its own loss, which the linear part does not serve
            first = at_least_single(self.first(x).squeeze(-1)) + wide.detach()
        order = initial_order(batch, batch.candidate_score if first is None else first)
        length = batch.candidate_mask.sum(-1)
        read, (hidden, cell) = run_packed(self.reader, take_rows(x, order), length)
        out = take_rows(read, order.argsort(-1))
        start = (hidden[-1], cell[-1])
        return PointerState(x, self.key(out), start, batch.candidate_mask, first, wide)

    def begin(self, state: PointerState, lists: int, slots: int) -> _Hidden:
        """State of the decoder before the first slot, [B, G, D] each."""
        b, d = state.start[0].shape
        start = [s[:, None, :].expand(b, lists, d) for s in state.start]
        # A copy: the operation counter does not see through a view of a parameter.
        return self._write(self.go.repeat(b, lists, 1), (start[0], start[1]))

    def _write(self, x: Tensor, hidden: _Hidden) -> _Hidden:
        shape = x.shape
        h, c = self.writer(
            x.reshape(-1, shape[-1]), tuple(s.reshape(-1, shape[-1]) for s in hidden)
        )
        return h.view(shape), c.view(shape)

    def step_logits(self, state: PointerState, hidden: _Hidden, step: int) -> Tensor:
        """Logits [B, G, N] of slot `step`."""
        query = self.query(hidden[0])[:, :, None, :]  # [B, G, 1, D]
        logits = at_least_single(self.point(torch.tanh(state.keys[:, None] + query)).squeeze(-1))
        logits = logits + state.wide[:, None, :]
        return logits.masked_fill(~state.mask[:, None, :], -torch.inf)

    def advance(self, state: PointerState, hidden: _Hidden, picked: Tensor, step: int) -> _Hidden:
        """State of the decoder after reading the picked candidates [B, G]."""
        return self._write(take_rows(state.inputs, picked), hidden)

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Cross-entropy with the remaining labels after the policy's own prefix, a scalar."""
        state = self.encode(batch)
        known = known_candidates(batch)
        open_state = state._replace(mask=known)
        with torch.no_grad():
            prefix = self.best(open_state, batch, slots)
        logits = self.forced_logits(open_state, prefix.unsqueeze(1)).squeeze(1)
        relevance = batch.relevance.clamp_min(0) * known
        loss = remaining_cross_entropy(logits, prefix, relevance)
        return loss if state.first is None else loss + pointwise_loss(state.first, batch)


class EGRank(Seq2Slate):
    """The pointer network of EGRank: a warm start on labels, then PPO on an evaluator.

    `loss` is the warm start. The training on rewards is `goalrank.training.PPOTask`: several lists
    per request from a frozen copy, the evaluator's reward of every slot, advantages standardised
    over the lists of a request, and the clipped surrogate.

    Differences to the paper: its evaluator is trained with a discriminator against lists unlike
    the logged ones; here the evaluator is the reward model of all generator–evaluator methods.
    """
