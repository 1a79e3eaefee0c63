"""PRS: permutation retrieve system, PMatch and PRank (Feng et al., 2021, arXiv 2102.12057)."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goalrank.encoders import EncoderSizes, RequestEncoder
from goalrank.nn import at_least_single, mlp
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
    like: Tensor  # [B, N] logit of feedback
    go_on: Tensor  # [B, N] logit that the user goes on after this item


class PRS(PoolPolicy):
    """PMatch proposes permutations by beam search, PRank's list reward picks one.

    - PMatch: item-level p(feedback) and p(next), the chance that the user goes on after an item.
      With e_t = Π_{s<t} p(next)_s the chance of reaching slot t, the beam keeps the `beams` best
      prefixes by β Σ e_t p(feedback)_t + α Σ e_t p(next)_t (the paper's r_IPV and r_PV).
    - PRank: a bidirectional LSTM over the permutation predicts feedback at every slot; the list
      reward is the sum over slots.

    Joint loss: binary cross-entropies of the three. Ours: "goes on" is read from the shown list as
    good feedback further down; where nothing was shown it is not learned and stays at 1/2, which
    weighs earlier slots more. The unshown labelled lists of PRank are drawn from PMatch.

    Args:
        beams: W, lists proposed.
        alpha: weight of the user's going on.
        beta: weight of feedback.
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
        self.like = mlp(d, d, 1, dropout=sizes.dropout)
        self.go_on = nn.Linear(d, 1)
        nn.init.zeros_(self.go_on.weight)
        nn.init.zeros_(self.go_on.bias)
        depth = max(sizes.layers, 1)
        self.reader = nn.LSTM(
            d, d // 2, depth, batch_first=True, bidirectional=True,
            dropout=sizes.dropout if depth > 1 else 0.0,
        )  # fmt: skip
        self.rank_head = mlp(2 * d, d, 1, dropout=sizes.dropout)

    def _encode(self, batch: Batch) -> _Encoded:
        x = self.encoder(batch).candidates
        return _Encoded(
            x, at_least_single(self.like(x).squeeze(-1)), at_least_single(self.go_on(x).squeeze(-1))
        )

    def pool(self, batch: Batch, slots: int) -> Pool:
        """The beam's permutations with PRank's list rewards."""
        encoded = self._encode(batch)
        lists = permutation_beam(
            encoded.like.sigmoid(),
            encoded.go_on.sigmoid(),
            batch.candidate_mask,
            slots,
            self.beams,
            (self.alpha, self.beta),
        )
        p = self._slot_logits(encoded.candidates, lists).sigmoid()
        return Pool(lists, (p * (lists >= 0)).sum(-1))

    def _slot_logits(self, candidates: Tensor, lists: Tensor) -> Tensor:
        """PRank's logits [B, G, L]."""
        x = gather_lists(candidates, lists)
        flat = x.flatten(0, 1)
        read, _ = run_packed(self.reader, flat, (lists >= 0).sum(-1).flatten())
        return at_least_single(
            self.rank_head(torch.cat([flat, read], -1)).squeeze(-1).view(lists.shape)
        )

    def loss(self, batch: Batch, slots: int) -> Tensor:
        encoded = self._encode(batch)
        loss = pointwise_loss(encoded.like, batch)
        lists = labelled_lists(batch, slots, encoded.like)
        gain, real = list_relevance(batch, lists), lists >= 0
        loss = loss + slot_loss(self._slot_logits(encoded.candidates, lists), gain, real)
        if labels_beyond_shown(batch):
            return loss
        good = (gain > 0).to(gain.dtype)
        later = (good.flip(-1).cumsum(-1).flip(-1) - good).clamp(0, 1)
        at = gather_lists(encoded.go_on.unsqueeze(-1), lists).squeeze(-1)
        has_next = F.pad(real[..., 1:], (0, 1), value=False)
        return loss + slot_loss(at, later, has_next)


def permutation_beam(
    like: Tensor,
    go_on: Tensor,
    mask: Tensor,
    slots: int,
    beams: int,
    weights: tuple[float, float] = (0.5, 1.0),
) -> Tensor:
    """Beam search over permutations by expected views and feedback.

    Args:
        like, go_on: [B, N] probabilities.
        mask: [B, N].
        weights: α of views and β of feedback.

    Returns:
        [B, W, L], best first; where fewer than W permutations exist, the best is repeated.
        Source: PRS (arXiv 2102.12057), the search of PMatch.
    """
    b, n = like.shape
    gain = (weights[1] * like + weights[0] * go_on)[:, None, :]
    lists = torch.full((b, 1, slots), -1, dtype=torch.long, device=like.device)
    total, reach = like.new_zeros(b, 1), like.new_ones(b, 1)
    taken = (~mask)[:, None, :]
    first = torch.arange(n, device=like.device) == 0
    for t in range(min(slots, n)):
        over = taken.all(-1)  # a request without candidates left: its lists stay as they are
        step = (reach[..., None] * gain).masked_fill(taken, -torch.inf)
        step = torch.where(over[..., None] & first, 0.0, step)
        scores = (total[..., None] + step).flatten(1)
        total, at = scores.sort(dim=-1, descending=True, stable=True)
        total, at = total[:, :beams], at[:, :beams]
        parent, pick = at // n, at % n
        ended = over.gather(1, parent)
        lists = lists.gather(1, parent[..., None].expand(-1, -1, slots)).clone()
        lists[..., t] = pick.masked_fill(ended, -1)
        reach = reach.gather(1, parent) * go_on.gather(1, pick)
        taken = taken.gather(1, parent[..., None].expand(-1, -1, n))
        taken = taken.scatter(2, pick[..., None], True)
    return torch.where(total.isneginf()[..., None], lists[:, :1], lists)
