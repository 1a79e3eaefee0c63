"""NAR4Rec: non-autoregressive generation (Ren et al., 2024, arXiv 2402.06871)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goalrank.encoders import EncoderSizes, RequestEncoder
from goalrank.nn import Attention, Block, at_least_single, divisor, take_rows, whole_sum
from goalrank.rankers.logged_lists import labelled_throughout
from goalrank.rankers.step_policy import StepPolicy
from goalrank.requests import Batch, InputSpec


class MatchState(NamedTuple):
    """An encoded request.

    Attributes:
        logits: [B, S, N] of every candidate at every trained slot, from one pass.
        unit: [B, N, D] candidate vectors of unit length.
    """

    logits: Tensor
    unit: Tensor


class NAR4Rec(StepPolicy):
    """p(i at slot t) = softmax_i(c_i · p_t) for all slots in one pass, then contrastive decoding.

    c_i comes from the candidate encoder (self-attention over the set), p_t from the position
    encoder (slot vectors that attend to one another and to the candidates).

    Decoding fills the slots from the first; a candidate at slot t is worth
    log p(i|t) − contrast · max_{j placed} cos(c_i, c_j). The paper weighs the probability itself
    against the likeness; in logarithms the rule is a policy whose lists have probabilities.

    Training: on a good list −Σ_t log p(l_t|t), on a bad one the unlikelihood
    −Σ_t log(1 − p(l_t|t)). Where lists were shown, a list is good if its mean feedback reaches the
    batch's mean. Where every candidate has a label (nothing was shown, or everything was, so that
    the shown order says nothing of a choice) good are the lists of the liked ones, the most liked
    first, and the loss is its mean over all orders of equals (each is as good; ordered by the
    policy itself, they would teach it what it holds already). The bad one is the policy's own most
    probable candidates that are not liked.

    The paper's evaluator that picks among several decodes is `BestOf([NAR4Rec], reward)`.

    Args:
        slots: slots with a vector of their own; later ones share the last.
        contrast: weight of the likeness to what is placed.
        unlikelihood: weight of the bad lists' loss.
    """

    def __init__(
        self,
        spec: InputSpec,
        sizes: EncoderSizes,
        slots: int = 6,
        *,
        contrast: float = 0.1,
        unlikelihood: float = 1.0,
    ) -> None:
        super().__init__()
        d = sizes.width
        self.contrast = contrast
        self.unlikelihood = unlikelihood
        self.encoder = RequestEncoder(spec, sizes)
        self.position = nn.Parameter(torch.randn(slots, d) * 0.5)
        self.between = Block(d, sizes.heads, sizes.dropout)
        self.norm = nn.LayerNorm(d)
        self.across = Attention(d, sizes.heads, sizes.dropout)
        self.slot_out = nn.Linear(d, d)
        self.candidate_out = nn.Linear(d, d)

    def encode(self, batch: Batch) -> MatchState:
        encoded = self.encoder(batch)
        x = encoded.candidates
        p = self.position + encoded.context[:, None, :]
        p = self.between(p)
        p = p + self.across(self.norm(p), x, batch.candidate_mask)
        c = self.candidate_out(x)
        logits = at_least_single(self.slot_out(p) @ c.transpose(1, 2)) * c.shape[-1] ** -0.5
        logits = logits.masked_fill(~batch.candidate_mask[:, None, :], -torch.inf)
        return MatchState(logits, F.normalize(c, dim=-1))

    def begin(self, state: MatchState, lists: int, slots: int) -> Tensor:
        b, _, n = state.logits.shape
        return state.unit.new_full((b, lists, n), -1.0)

    def step_logits(self, state: MatchState, hidden: Tensor, step: int) -> Tensor:
        at = min(step, state.logits.shape[1] - 1)
        penalty = self.contrast * hidden if step else torch.zeros_like(hidden)
        return state.logits[:, at, None, :].log_softmax(-1) - penalty.to(state.logits.dtype)

    def advance(self, state: MatchState, hidden: Tensor, picked: Tensor, step: int) -> Tensor:
        likeness = take_rows(state.unit, picked) @ state.unit.transpose(1, 2)  # [B, G, N]
        return torch.maximum(hidden, likeness)

    def loss(self, batch: Batch, slots: int) -> Tensor:
        state = self.encode(batch)
        steps = min(slots, len(self.position))
        good, bad = (lists[:, :steps] for lists in self._targets(state, batch, slots))
        log_p = state.logits[:, :steps].log_softmax(-1)
        wanted = good > 0
        like = (torch.where(wanted, log_p, 0.0) * good).sum() / divisor(wanted.any(-1).sum())
        p = log_p.exp().clamp_max(1 - 1e-6)
        unlike = _mean_over(torch.log1p(-p), bad)
        return -(like + self.unlikelihood * unlike)

    def _targets(self, state: MatchState, batch: Batch, slots: int) -> tuple[Tensor, Tensor]:
        """Good lists as shares [B, L, N] of each slot, and bad ones [B, L], -1 where there is none."""
        relevance = batch.relevance.masked_fill(~batch.candidate_mask, 0.0)
        liked, logits = relevance > 0, state.logits.detach()
        labelled = labelled_throughout(batch)
        good, bad = self._shown(batch, relevance, slots)
        n = relevance.shape[1]
        listed = F.one_hot(good + 1, n + 1)[..., 1:].to(relevance.dtype)
        return (
            torch.where(labelled[:, None, None], _owed(relevance, liked, slots), listed),
            torch.where(labelled[:, None], _hardest(logits, liked, slots), bad),
        )

    @staticmethod
    def _shown(batch: Batch, relevance: Tensor, slots: int) -> tuple[Tensor, Tensor]:
        """Shown lists [B, L] that did well, and those that did not."""
        shown = F.pad(batch.shown, (0, slots), value=-1)[:, :slots]
        real = shown >= 0
        gain = relevance.gather(1, shown.clamp_min(0)) * real
        utility = gain.sum(-1) / real.sum(-1).clamp_min(1)
        some = real.any(-1)
        bar = whole_sum((utility * some).sum()) / whole_sum(some.sum()).clamp_min(1)
        is_good = ((utility >= bar) & (gain > 0).any(-1))[:, None]
        return torch.where(is_good, shown, -1), torch.where(is_good, -1, shown)


def _owed(relevance: Tensor, liked: Tensor, slots: int) -> Tensor:
    """Share [B, L, N] of the liked at each slot, over all orders that put the most liked first."""
    less = torch.where(liked, -relevance, torch.inf)
    order = less.sort(-1).values
    first, end = (torch.searchsorted(order, less, right=right) for right in (False, True))
    slot = torch.arange(slots, device=relevance.device)[:, None]
    inside = (first[:, None] <= slot) & (slot < end[:, None]) & liked[:, None]
    return inside / (end - first)[:, None].clamp_min(1).to(relevance.dtype)


def _hardest(logits: Tensor, liked: Tensor, slots: int) -> Tensor:
    """The most probable list of candidates that are not liked, slot by slot [B, L]."""
    left = logits.masked_fill(liked[:, None, :], -torch.inf)
    out = []
    for t in range(min(slots, logits.shape[1], logits.shape[2])):
        value, pick = left[:, t].max(-1)
        out.append(pick.masked_fill(value == -torch.inf, -1))
        left = left.scatter(2, pick[:, None, None].expand(-1, left.shape[1], 1), -torch.inf)
    lists = torch.stack(out, -1)
    return F.pad(lists, (0, slots - lists.shape[-1]), value=-1)


def _mean_over(values: Tensor, lists: Tensor) -> Tensor:
    """Mean of values [B, T, N] at a list's candidates [B, T]; 0 if every list is empty."""
    real = lists >= 0
    picked = values.gather(-1, lists.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    picked = torch.where(real, picked, torch.zeros_like(picked))
    return picked.sum() / divisor(real.sum())
