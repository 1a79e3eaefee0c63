"""NAR4Rec: non-autoregressive generation (Ren et al., 2024, arXiv 2402.06871)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.nn import Attention, Block, at_least_single, divisor, take_rows, whole_sum, zeroed
from goalrank.rankers.logged_lists import fully_labelled
from goalrank.rankers.step_policy import StepPolicy
from goalrank.requests import Batch, InputSpec


class MatchState(NamedTuple):
    """An encoded batch.

    Attributes:
        logits: [B, S, N] logits of every candidate at every trained slot, from one pass.
        unit: [B, N, D] candidate vectors of unit length.
    """

    logits: Tensor
    unit: Tensor


class NAR4Rec(StepPolicy):
    """A generator with p(i at slot t) = softmax_i(c_i · p_t) in one pass, and contrastive decoding.

    c_i comes from the candidate encoder (self-attention over the set), p_t from the position
    encoder (slot vectors that attend to each other and to the candidates).

    Decoding fills the slots in order. The logit of candidate i at slot t is
    log p(i|t) − contrast · max_{j placed} cos(c_i, c_j). The paper subtracts the similarity from
    the probability itself; in logarithms decoding is a policy with list probabilities.

    Training: −Σ_t log p(l_t|t) on a good list, and the unlikelihood −Σ_t log(1 − p(l_t|t)) on a bad
    one. Where lists were shown, a list is good if its mean feedback reaches the batch's mean. Where
    every candidate has a label (nothing was shown, or everything was, so that the shown order is no
    choice), the good lists hold the liked candidates, the most liked first. The loss is then the
    mean over all orders of equally liked candidates; ordering them by the policy itself would only
    confirm it. The bad list holds the policy's most probable candidates that are not liked.

    The paper's evaluator, which picks among several decoded lists, is `BestOf([NAR4Rec], reward)`.

    Args:
        spec: shapes of the batches.
        sizes: sizes of the network.
        slots: slots with their own vector; later ones share the last.
        contrast: weight of the similarity to placed candidates.
        unlikelihood: weight of the bad lists' loss.
    """

    has_graph = True

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
        self.wide = Wide(spec)
        self.slot_out = zeroed(nn.Linear(d, d))
        self.candidate_out = nn.Linear(d, d)

    def encode(self, batch: Batch) -> MatchState:
        """Encode requests and compute the logits of all slots in one pass."""
        encoded = self.encoder(batch)
        x = encoded.candidates
        p = self.position + encoded.context[:, None, :]
        p = self.between(p)
        p = p + self.across(self.norm(p), x, batch.candidate_mask)
        c = self.candidate_out(x)
        logits = at_least_single(self.slot_out(p) @ c.transpose(1, 2)) * c.shape[-1] ** -0.5
        logits = logits + self.wide(batch, encoded.plain).transpose(1, 2)
        logits = logits.masked_fill(~batch.candidate_mask[:, None, :], -torch.inf)
        return MatchState(logits, F.normalize(c, dim=-1))

    def begin(self, state: MatchState, lists: int, slots: int) -> Tensor:
        """Largest similarity to a placed candidate, before any is placed: [B, G, N] of -1."""
        b, _, n = state.logits.shape
        return state.unit.new_full((b, lists, n), -1.0)

    def step_logits(self, state: MatchState, hidden: Tensor, step: int) -> Tensor:
        """Logits [B, G, N] of slot `step` minus the penalty for similarity to placed candidates."""
        at = min(step, state.logits.shape[1] - 1)
        penalty = self.contrast * hidden if step else torch.zeros_like(hidden)
        return state.logits[:, at, None, :].log_softmax(-1) - penalty.to(state.logits.dtype)

    def advance(self, state: MatchState, hidden: Tensor, picked: Tensor, step: int) -> Tensor:
        """Update the largest similarity [B, G, N] by the picked candidates [B, G]."""
        similarity = take_rows(state.unit, picked) @ state.unit.transpose(1, 2)  # [B, G, N]
        return torch.maximum(hidden, similarity)

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Likelihood of good lists and unlikelihood of bad ones, a scalar."""
        state = self.encode(batch)
        steps = min(slots, len(self.position))
        good, bad = (lists[:, :steps] for lists in self._targets(state, batch, slots))
        log_p = state.logits[:, :steps].log_softmax(-1)
        has_target = good > 0
        log_likelihood = torch.where(has_target, log_p, 0.0) * good
        likelihood = log_likelihood.sum() / divisor(has_target.any(-1).sum())
        p = log_p.exp().clamp_max(1 - 1e-6)
        unlikelihood = _mean_over(torch.log1p(-p), bad)
        return -(likelihood + self.unlikelihood * unlikelihood)

    def _targets(self, state: MatchState, batch: Batch, slots: int) -> tuple[Tensor, Tensor]:
        """Good lists as shares [B, L, N] per slot, and bad lists [B, L] with -1 for no target."""
        relevance = batch.relevance.masked_fill(~batch.candidate_mask, 0.0)
        liked, logits = relevance > 0, state.logits.detach()
        labelled = fully_labelled(batch)
        good, bad = self._shown(batch, relevance, slots)
        n = relevance.shape[1]
        listed = F.one_hot(good + 1, n + 1)[..., 1:].to(relevance.dtype)
        return (
            torch.where(labelled[:, None, None], _target_shares(relevance, liked, slots), listed),
            torch.where(labelled[:, None], _hard_negatives(logits, liked, slots), bad),
        )

    @staticmethod
    def _shown(batch: Batch, relevance: Tensor, slots: int) -> tuple[Tensor, Tensor]:
        """Good and bad shown lists [B, L]; -1 everywhere in a list of the other kind."""
        shown = F.pad(batch.shown, (0, slots), value=-1)[:, :slots]
        real = shown >= 0
        gain = relevance.gather(1, shown.clamp_min(0)) * real
        utility = gain.sum(-1) / real.sum(-1).clamp_min(1)
        some = real.any(-1)
        threshold = whole_sum((utility * some).sum()) / whole_sum(some.sum()).clamp_min(1)
        is_good = ((utility >= threshold) & (gain > 0).any(-1))[:, None]
        return torch.where(is_good, shown, -1), torch.where(is_good, -1, shown)


def _target_shares(relevance: Tensor, liked: Tensor, slots: int) -> Tensor:
    """Share [B, L, N] of each liked candidate at each slot, over all orders by relevance."""
    negated = torch.where(liked, -relevance, torch.inf)
    order = negated.sort(-1).values
    first, end = (torch.searchsorted(order, negated, right=right) for right in (False, True))
    slot = torch.arange(slots, device=relevance.device)[:, None]
    inside = (first[:, None] <= slot) & (slot < end[:, None]) & liked[:, None]
    return inside / (end - first)[:, None].clamp_min(1).to(relevance.dtype)


def _hard_negatives(logits: Tensor, liked: Tensor, slots: int) -> Tensor:
    """The most probable list [B, L] of candidates that are not liked, greedily slot by slot."""
    remaining = logits.masked_fill(liked[:, None, :], -torch.inf)
    out = []
    for t in range(min(slots, logits.shape[1], logits.shape[2])):
        value, pick = remaining[:, t].max(-1)
        out.append(pick.masked_fill(value == -torch.inf, -1))
        index = pick[:, None, None].expand(-1, remaining.shape[1], 1)
        remaining = remaining.scatter(2, index, -torch.inf)
    lists = torch.stack(out, -1)
    return F.pad(lists, (0, slots - lists.shape[-1]), value=-1)


def _mean_over(values: Tensor, lists: Tensor) -> Tensor:
    """Mean of values [B, T, N] at the candidates of lists [B, T]; 0 if every list is empty."""
    real = lists >= 0
    picked = values.gather(-1, lists.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    picked = torch.where(real, picked, torch.zeros_like(picked))
    return picked.sum() / divisor(real.sum())
