"""The Ranker: a policy over lists."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from goalrank.nn import gumbel, request_salt
from goalrank.rankers.plackett_luce import log_prob as plackett_luce_log_prob
from goalrank.requests import Batch, EncodedRequests


@dataclass(frozen=True)
class Proposal:
    """Lists drawn from a policy.

    Attributes:
        lists: [B, G, L] positions on the N axis, -1 where the list has ended.
        log_prob: [B, G] log-probability of each list under the policy it was drawn from.
    """

    lists: Tensor
    log_prob: Tensor


class Ranker(nn.Module):
    """A request goes in, ordered lists of L come out, each with its exact log-probability.

    A ranker encodes a batch once (`encode`) and everything else starts from what that gave, its
    state. Every ranker takes any N, H and L, ignores padding, and gives min(L, number of
    candidates) distinct candidates followed by -1.
    """

    @abstractmethod
    def encode(self, batch: Batch) -> Any:
        """All that is computed once a request: the state."""

    @abstractmethod
    def best(self, state: Any, batch: Batch, slots: int) -> Tensor:
        """The ranker's best lists [B, L]."""

    @abstractmethod
    def draw(
        self,
        state: Any,
        batch: Batch,
        lists: int,
        slots: int,
        rng: torch.Generator,
        temperature: float = 1.0,
    ) -> Tensor:
        """Lists [B, G, L] drawn from the policy."""

    @abstractmethod
    def list_log_prob(
        self, state: Any, batch: Batch, lists: Tensor, temperature: float = 1.0
    ) -> Tensor:
        """Exact log-probabilities [B, G] of lists [B, G, L]."""

    def next_log_prob(self, state: Any, batch: Batch, prefix: Tensor) -> Tensor:
        """Log-probability [B, N] of each candidate after a prefix [B, T] of real candidates.

        -inf for padding and for what stands in the prefix; a request with nothing left is all -inf.
        """
        b, n = batch.candidates.shape
        each = torch.arange(n, device=prefix.device).expand(b, n)
        lists = torch.cat([prefix[:, None, :].expand(b, n, -1), each[..., None]], -1)
        free = batch.candidate_mask & ~(lists[..., :-1] == each[..., None]).any(-1)
        logits = self.list_log_prob(state, batch, lists).masked_fill(~free, -torch.inf)
        return at_next(logits)

    def rank(self, batch: Batch, slots: int) -> Tensor:
        """The ranker's best list: [B, L] positions on the N axis, -1 where N < L."""
        return self.best(self.encode(batch), batch, slots)

    def propose(
        self,
        batch: Batch,
        lists: int,
        slots: int,
        rng: torch.Generator,
        *,
        temperature: float = 1.0,
    ) -> Proposal:
        """Draw G lists a request.

        A request's lists depend on its key and one draw of `rng`, not on its batch.
        """
        state = self.encode(batch)
        drawn = self.draw(state, batch, lists, slots, rng, temperature)
        return Proposal(drawn, self.list_log_prob(state, batch, drawn, temperature))

    def log_prob(self, batch: Batch, lists: Tensor, *, temperature: float = 1.0) -> Tensor:
        """Exact log-probability [B, G] of any lists [B, G, L]."""
        return self.list_log_prob(self.encode(batch), batch, lists, temperature)

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Supervised training loss, a scalar: each ranker's own. See `trainable`."""
        raise NotImplementedError(f"{type(self).__name__} learns nothing from labels")

    closed_form: bool = False
    """Whether the ranker is fitted by `fit_closed_form` and not by gradients of `loss`."""

    def fit_closed_form(
        self, train: EncodedRequests, validation: EncodedRequests | None, slots: int, seed: int
    ) -> None:
        """Fit on whole tables at once; only rankers whose `closed_form` is True have this.

        Args:
            validation: for early stopping; may be None.
            slots: L that the ranker is fitted for.
            seed: of every random draw.
        """
        raise NotImplementedError(f"{type(self).__name__} is fitted by gradients, see `loss`")

    @property
    def trainable(self) -> bool:
        """Whether the ranker has parameters to fit."""
        return any(p.requires_grad for p in self.parameters())


class Scorer(Ranker):
    """A ranker that scores candidates and sorts; as a policy it is Plackett-Luce.

    Plackett-Luce draws without replacement with probability ∝ exp(score); Gumbel top-k samples it
    exactly (Kool et al., 2019). Its state is the scores [B, N].
    """

    @abstractmethod
    def scores(self, batch: Batch) -> Tensor:
        """[B, N] one score a candidate; padding may hold anything finite."""

    def encode(self, batch: Batch) -> Tensor:
        return self.scores(batch)

    def best(self, state: Tensor, batch: Batch, slots: int) -> Tensor:
        return top_slots(state, batch.candidate_mask, slots)

    def draw(
        self,
        state: Tensor,
        batch: Batch,
        lists: int,
        slots: int,
        rng: torch.Generator,
        temperature: float = 1.0,
    ) -> Tensor:
        noise = gumbel(request_salt(batch.key, rng), batch.candidates, lists)
        mask = batch.candidate_mask[:, None, :].expand_as(noise)
        return top_slots(state[:, None, :] / temperature + noise, mask, slots)

    def list_log_prob(
        self, state: Tensor, batch: Batch, lists: Tensor, temperature: float = 1.0
    ) -> Tensor:
        return plackett_luce_log_prob(state / temperature, batch.candidate_mask, lists)

    def next_log_prob(self, state: Tensor, batch: Batch, prefix: Tensor) -> Tensor:
        left = batch.candidate_mask.scatter(1, prefix.clamp_min(0), False)
        return at_next(state.masked_fill(~left, -torch.inf))


def open_slot(prefix: Tensor) -> Tensor:
    """Prefixes [B, T] with one more slot: [B, T + 1]; what stands there says nothing."""
    return nn.functional.pad(prefix, (0, 1), value=-1)


def at_next(logits: Tensor) -> Tensor:
    """Log-softmax of a slot's logits [B, N]; requests without a candidate stay -inf, and so do
    candidates that cannot follow."""
    none = torch.isneginf(logits).all(-1, keepdim=True)
    log_p = logits.masked_fill(none, 0.0).log_softmax(-1)
    return log_p.masked_fill(torch.isneginf(logits), -torch.inf)


def top_slots(scores: Tensor, mask: Tensor, slots: int) -> Tensor:
    """Positions of the highest scores, best first.

    Args:
        scores: [..., N].
        mask: [..., N] True = may be chosen.
        slots: L.

    Returns:
        [..., L]; -1 where fewer than L may be chosen. Ties resolve to the lower position.
    """
    n = scores.shape[-1]
    keep = min(slots, n)
    masked = scores.masked_fill(~mask, -torch.inf)
    # A stable sort resolves ties the same way whatever the padding; topk does not promise that.
    order = masked.sort(dim=-1, descending=True, stable=True).indices[..., :keep]
    order = order.masked_fill(~mask.gather(-1, order), -1)
    if keep < slots:
        order = nn.functional.pad(order, (0, slots - keep), value=-1)
    return order
