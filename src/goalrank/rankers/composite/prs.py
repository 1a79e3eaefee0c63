"""PRS: permutation retrieve system, PMatch and PRank (Feng et al., 2021, arXiv 2102.12057)."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.nn import at_least_single, mlp, zeroed
from goalrank.rankers.composite.pool import Pool, PoolPolicy
from goalrank.rankers.history_vectors import run_packed
from goalrank.rankers.initial_order import pointwise_loss
from goalrank.rankers.logged_lists import (
    gather_lists,
    labelled_lists,
    labels_beyond_shown,
    list_relevance,
    slot_loss,
)
from goalrank.requests import Batch, InputSpec


class _Encoded(NamedTuple):
    candidates: Tensor  # [B, N, D]
    feedback: Tensor  # [B, N] logit of feedback
    continuation: Tensor  # [B, N] logit that the user continues after this item
    wide: Tensor  # [B, N, 1] linear scores


class PRS(PoolPolicy):
    """A policy over permutations that PMatch proposes by beam search and PRank values.

    - PMatch: item-level p(feedback) and p(next), the probability that the user continues after an
      item. With e_t = Π_{s<t} p(next)_s, the probability of reaching slot t, the beam keeps the
      `beams` best prefixes by β Σ e_t p(feedback)_t + α Σ e_t p(next)_t (the paper's r_IPV and
      r_PV).
    - PRank: a bidirectional LSTM over the permutation predicts feedback at every slot; the list
      reward is the sum over slots.

    The joint loss is the sum of the three binary cross-entropies. Differences to the paper: a user
    "continues" at a slot of a shown list if a later slot has positive feedback. Where nothing was
    shown p(next) is not learned and stays at 1/2, which gives earlier slots more weight. Labelled
    lists that were not shown are drawn from PMatch for PRank.

    Args:
        spec: shapes of the batches.
        sizes: sizes of the network.
        beams: W, proposed lists.
        alpha: α, weight of continuing.
        beta: β, weight of feedback.
    """

    def __init__(
        self,
        spec: InputSpec,
        sizes: EncoderSizes,
        *,
        beams: int = 20,
        alpha: float = 0.5,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        d = sizes.width
        self.beams, self.alpha, self.beta = beams, alpha, beta
        self.encoder = RequestEncoder(spec, replace(sizes, layers=0))
        self.wide = Wide(spec, probabilities=True)
        self.like = zeroed(mlp(d, d, 1, dropout=sizes.dropout))
        self.go_on = zeroed(nn.Linear(d, 1))
        depth = max(sizes.layers, 1)
        self.reader = nn.LSTM(
            d, d // 2, depth, batch_first=True, bidirectional=True,
            dropout=sizes.dropout if depth > 1 else 0.0,
        )  # fmt: skip
        self.rank_head = zeroed(mlp(2 * d, d, 1, dropout=sizes.dropout))

    def _encode(self, batch: Batch) -> _Encoded:
        encoded = self.encoder(batch)
        x = encoded.candidates
        wide = self.wide(batch, encoded.plain)
        feedback = (at_least_single(self.like(x)) + wide).squeeze(-1)
        return _Encoded(x, feedback, at_least_single(self.go_on(x).squeeze(-1)), wide)

    def pool(self, batch: Batch, slots: int) -> Pool:
        """Propose the permutations of the beam, and value them by PRank."""
        encoded = self._encode(batch)
        lists = permutation_beam(
            encoded.feedback.sigmoid(),
            encoded.continuation.sigmoid(),
            batch.candidate_mask,
            slots,
            self.beams,
            (self.alpha, self.beta),
        )
        p = self._slot_logits(encoded, lists).sigmoid()
        return Pool(lists, (p * (lists >= 0)).sum(-1))

    def _slot_logits(self, encoded: _Encoded, lists: Tensor) -> Tensor:
        """PRank's logits [B, G, L] of feedback at every slot."""
        x = gather_lists(encoded.candidates, lists)
        flat = x.flatten(0, 1)
        read, _ = run_packed(self.reader, flat, (lists >= 0).sum(-1).flatten())
        logits = at_least_single(self.rank_head(torch.cat([flat, read], -1)))
        return logits.view(lists.shape) + gather_lists(encoded.wide, lists).squeeze(-1)

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Joint loss on labelled lists, a scalar."""
        encoded = self._encode(batch)
        loss = pointwise_loss(encoded.feedback, batch)
        lists = labelled_lists(batch, slots, encoded.feedback)
        gain, real = list_relevance(batch, lists), lists >= 0
        loss = loss + slot_loss(self._slot_logits(encoded, lists), gain, real)
        if labels_beyond_shown(batch):
            return loss
        good = (gain > 0).to(gain.dtype)
        later = (good.flip(-1).cumsum(-1).flip(-1) - good).clamp(0, 1)
        at = gather_lists(encoded.continuation.unsqueeze(-1), lists).squeeze(-1)
        has_next = F.pad(real[..., 1:], (0, 1), value=False)
        return loss + slot_loss(at, later, has_next)


def permutation_beam(
    feedback: Tensor,
    continuation: Tensor,
    mask: Tensor,
    slots: int,
    beams: int,
    weights: tuple[float, float] = (0.5, 1.0),
) -> Tensor:
    """Beam search over permutations by expected views and feedback.

    Source: the search of PMatch in PRS (arXiv 2102.12057).

    Args:
        feedback: [B, N] probability of feedback.
        continuation: [B, N] probability that the user continues after this item.
        mask: [B, N] True for real candidates.
        slots: L.
        beams: W.
        weights: α of views and β of feedback.

    Returns:
        [B, W, L] positions, best first; if there are fewer than W permutations, the best repeats.
    """
    b, n = feedback.shape
    gain = (weights[1] * feedback + weights[0] * continuation)[:, None, :]
    lists = torch.full((b, 1, slots), -1, dtype=torch.long, device=feedback.device)
    total, reach = feedback.new_zeros(b, 1), feedback.new_ones(b, 1)
    taken = (~mask)[:, None, :]
    first = torch.arange(n, device=feedback.device) == 0
    for t in range(min(slots, n)):
        exhausted = taken.all(-1)  # no candidates left: the lists of this request do not change
        step = (reach[..., None] * gain).masked_fill(taken, -torch.inf)
        step = torch.where(exhausted[..., None] & first, 0.0, step)
        scores = (total[..., None] + step).flatten(1)
        total, at = scores.sort(dim=-1, descending=True, stable=True)
        total, at = total[:, :beams], at[:, :beams]
        parent, pick = at // n, at % n
        ended = exhausted.gather(1, parent)
        lists = lists.gather(1, parent[..., None].expand(-1, -1, slots)).clone()
        lists[..., t] = pick.masked_fill(ended, -1)
        reach = reach.gather(1, parent) * continuation.gather(1, pick)
        taken = taken.gather(1, parent[..., None].expand(-1, -1, n))
        taken = taken.scatter(2, pick[..., None], True)
    return torch.where(total.isneginf()[..., None], lists[:, :1], lists)
