"""The Ranker: a policy over lists."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from goalrank.encoders import RequestEncoder, Wide
from goalrank.errors import ConfigError
from goalrank.nn import gumbel, request_salt
from goalrank.rankers.config import RankerConfig, constructor_arguments
from goalrank.rankers.plackett_luce import log_prob as plackett_luce_log_prob
from goalrank.requests import Batch, EncodedRequests, InputSpec

Choose = Callable[[Tensor, int], Tensor]
"""(logits [B, G, N] of a slot, the slot) → picks [B, G], -1 for none."""


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

    A ranker encodes a batch once (`encode`) and everything else starts from the result, its
    state. Every ranker takes any N, H and L, ignores padding, and gives min(L, number of
    candidates) distinct candidates followed by -1.

    What only some rankers can do (`stepwise`, `scores_candidates`, `decodes_greedily`,
    `has_beam_search`, `exportable`) is asked of the ranker; the methods that go with it refuse by default.
    """

    stepwise: bool = False
    """Whether the policy is a product of softmaxes per slot that can be masked (`decode_with`)."""

    scores_candidates: bool = False
    """Whether lists are nothing but the candidates sorted by `scores`."""

    has_beam_search: bool = False
    """Whether the ranker has `beam_search`."""

    any_list: bool = True
    """Whether every list has a probability above 0; an objective on given lists needs that."""
    has_graph: bool = False
    """Whether `encode` is tensor operations alone, all of which ONNX has; see `exportable`."""

    closed_form: bool = False
    """Whether the ranker is fitted by `fit_closed_form` and not by gradients of `loss`."""

    @classmethod
    def from_config(cls, spec: InputSpec, config: RankerConfig) -> Self:
        """A fresh ranker of a size; see `constructor_arguments` for what its constructor is given.

        Raises:
            ConfigError: an option is unknown, missing or of the wrong type.
        """
        return cls(**constructor_arguments(cls, spec, config))

    @abstractmethod
    def encode(self, batch: Batch) -> Any:
        """Compute the state: all that is computed once per request."""

    @abstractmethod
    def best(self, state: Any, batch: Batch, slots: int) -> Tensor:
        """Return the ranker's best lists [B, L]."""

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
        """Draw lists [B, G, L] from the policy."""

    @abstractmethod
    def list_log_prob(
        self, state: Any, batch: Batch, lists: Tensor, temperature: float = 1.0
    ) -> Tensor:
        """Compute the exact log-probabilities [B, G] of lists [B, G, L]."""

    def next_log_prob(self, state: Any, batch: Batch, prefix: Tensor) -> Tensor:
        """Compute the log-probability [B, N] of each candidate after a prefix [B, T].

        -inf for padding and for the prefix's own candidates; all -inf where no candidate is left.
        """
        b, n = batch.candidates.shape
        each = torch.arange(n, device=prefix.device).expand(b, n)
        lists = torch.cat([prefix[:, None, :].expand(b, n, -1), each[..., None]], -1)
        free = batch.candidate_mask & ~(lists[..., :-1] == each[..., None]).any(-1)
        logits = self.list_log_prob(state, batch, lists).masked_fill(~free, -torch.inf)
        return at_next(logits)

    def rank(self, batch: Batch, slots: int) -> Tensor:
        """Return the ranker's best list: [B, L] positions on the N axis, -1 where N < L."""
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
        """Draw G lists per request.

        A request's lists depend on its key and one draw of `rng`, not on its batch.
        """
        state = self.encode(batch)
        drawn = self.draw(state, batch, lists, slots, rng, temperature)
        return Proposal(drawn, self.list_log_prob(state, batch, drawn, temperature))

    def log_prob(self, batch: Batch, lists: Tensor, *, temperature: float = 1.0) -> Tensor:
        """Compute the exact log-probability [B, G] of any lists [B, G, L]."""
        return self.list_log_prob(self.encode(batch), batch, lists, temperature)

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Compute the ranker's own supervised training loss, a scalar. See `trainable`."""
        raise NotImplementedError(f"{type(self).__name__} learns nothing from labels")

    def supervised_loss(self, state: Any, batch: Batch, slots: int) -> Tensor:
        """Compute `loss` of an encoded batch; rankers that can, reuse the state."""
        return self.loss(batch, slots)

    def fit_closed_form(
        self, train: EncodedRequests, validation: EncodedRequests | None, slots: int, seed: int
    ) -> None:
        """Fit on whole tables at once; only rankers whose `closed_form` is True have this.

        Args:
            train: the training requests.
            validation: for early stopping; may be None.
            slots: L that the ranker is fitted for.
            seed: of every random draw.
        """
        raise NotImplementedError(f"{type(self).__name__} is fitted by gradients, see `loss`")

    @property
    def trainable(self) -> bool:
        """Whether the ranker has parameters to fit."""
        return any(p.requires_grad for p in self.parameters())

    @property
    def request_encoder(self) -> RequestEncoder | None:
        """The encoder that may start from other models' weights: the attribute `encoder`."""
        return getattr(self, "encoder", None)

    @property
    def wide_path(self) -> Wide | None:
        """The linear part that the ranker begins as: the attribute `wide`."""
        return getattr(self, "wide", None)

    @property
    def decodes_greedily(self) -> bool:
        """Whether the best lists are those of `greedy`: True for what is `stepwise`."""
        return self.stepwise

    @property
    def exportable(self) -> bool:
        """Whether `encode` and `greedy` can be exported as one graph (extra `onnx`)."""
        return self.has_graph and self.decodes_greedily

    def greedy(
        self, state: Any, batch: Batch, slots: int, open_to: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Take the most probable candidate at every slot; also that list's probability.

        Args:
            state: result of the ranker's `encode`.
            batch: the encoded requests.
            slots: L.
            open_to: [B, L, N] True where a candidate may fill a slot; None allows everything.

        Returns:
            lists [B, L], -1 where nothing is left; log-probabilities [B] in double precision.

        Raises:
            ConfigError: `stepwise` is False.
        """
        kept: list[Tensor] = []

        def choose(logits: Tensor, step: int) -> Tensor:
            if open_to is not None:
                logits = logits.masked_fill(~open_to[:, step].unsqueeze(1), -torch.inf)
            kept.append(logits)
            best, pick = logits.max(-1)
            return pick.masked_fill(best.isneginf(), -1)

        lists = self.decode_with(state, batch, slots, choose)
        return lists, greedy_log_prob(kept)

    def decode_with(self, state: Any, batch: Batch, slots: int, choose: Choose) -> Tensor:
        """Fill one list per request slot by slot, [B, L], with a choice made from outside.

        Args:
            state: result of the ranker's `encode`.
            batch: the encoded requests.
            slots: L.
            choose: called once per slot, with logits [B, 1, N], -inf where padded or placed.

        Raises:
            ConfigError: `stepwise` is False.
        """
        raise ConfigError(
            f"ranker {type(self).__name__} chooses whole lists, so rules cannot mask its steps; "
            f"remedy: serve a generator or a scorer, or ask without rules"
        )

    def beam_search(self, state: Any, slots: int, width: int) -> tuple[Tensor, Tensor]:
        """Find the W most probable lists that a beam keeps, best first.

        Returns:
            lists [B, W, L] and their log-probabilities [B, W] (-inf where fewer than W exist).

        Raises:
            ConfigError: `has_beam_search` is False.
        """
        raise ConfigError(
            f"ranker {type(self).__name__} has no beam search; remedy: ranker.name goalrank"
        )

    def scores(self, batch: Batch) -> Tensor:
        """Score the candidates: [B, N]; padding may hold anything finite.

        Raises:
            ConfigError: `scores_candidates` is False.
        """
        raise ConfigError(
            f"ranker {type(self).__name__} makes lists and scores no candidates; remedy: a scorer, "
            f"such as ranker.name dnn or prm"
        )

    def pool_size(self, batch: Batch, slots: int) -> int:
        """Count the lists that an evaluator chooses from; 1 where the ranker makes its own list."""
        return 1


class Scorer(Ranker):
    """A ranker that scores candidates and sorts; as a policy it is Plackett-Luce.

    Plackett-Luce draws without replacement with probability ∝ exp(score); Gumbel top-k samples it
    exactly (Kool et al., 2019). Its state is the scores [B, N].
    """

    stepwise = True
    scores_candidates = True

    @abstractmethod
    def scores(self, batch: Batch) -> Tensor:
        """Score the candidates: [B, N]; padding may hold anything finite."""

    def encode(self, batch: Batch) -> Tensor:
        """Compute the scores [B, N], which are the state."""
        return self.scores(batch)

    def best(self, state: Tensor, batch: Batch, slots: int) -> Tensor:
        """Return the candidates [B, L] with the highest scores, best first."""
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
        """Draw lists [B, G, L] by Gumbel top-k, which samples Plackett-Luce exactly."""
        noise = gumbel(request_salt(batch.key, rng), batch.candidates, lists)
        mask = batch.candidate_mask[:, None, :].expand_as(noise)
        return top_slots(state[:, None, :] / temperature + noise, mask, slots)

    def list_log_prob(
        self, state: Tensor, batch: Batch, lists: Tensor, temperature: float = 1.0
    ) -> Tensor:
        """Compute the Plackett-Luce log-probabilities [B, G] of lists [B, G, L]."""
        return plackett_luce_log_prob(state / temperature, batch.candidate_mask, lists)

    def next_log_prob(self, state: Tensor, batch: Batch, prefix: Tensor) -> Tensor:
        """Compute the log-softmax [B, N] of the scores of candidates after a prefix [B, T]."""
        left = batch.candidate_mask.scatter(1, prefix.clamp_min(0), False)
        return at_next(state.masked_fill(~left, -torch.inf))

    def greedy(
        self, state: Tensor, batch: Batch, slots: int, open_to: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sort, where nothing is forbidden; see `Ranker.greedy`."""
        if open_to is not None:
            return super().greedy(state, batch, slots, open_to)
        lists = self.best(state, batch, slots)
        log_prob = self.list_log_prob(state.double(), batch, lists.unsqueeze(1))
        return lists, log_prob.squeeze(1)

    def decode_with(self, state: Tensor, batch: Batch, slots: int, choose: Choose) -> Tensor:
        """Fill one list [B, L] per request; the logits are the scores of the candidates left."""
        left = state.masked_fill(~batch.candidate_mask, -torch.inf).unsqueeze(1)
        picks = []
        for step in range(min(slots, left.shape[-1])):
            pick = choose(left, step)
            picks.append(pick)
            left = left.scatter(-1, pick.clamp_min(0).unsqueeze(-1), -torch.inf)
        lists = torch.cat(picks, 1) if picks else state.new_zeros((len(state), 0)).long()
        return nn.functional.pad(lists, (0, slots - lists.shape[1]), value=-1)


def greedy_log_prob(kept: Sequence[Tensor]) -> Tensor:
    """Log-probability [B] in double precision of lists that take the best candidate at each slot.

    Args:
        kept: the logits [B, 1, N] of each slot, -inf where a candidate may not be taken; a slot
            where none may counts 0.
    """
    logits = torch.cat(list(kept), 1).double()
    best = logits.amax(-1, keepdim=True)
    ended = best.isneginf()
    # The pick is the best one, so its log softmax is -log Σ exp(logits - best).
    rest = (logits - best.masked_fill(ended, 0.0)).exp().sum(-1).log()
    return -rest.masked_fill(ended.squeeze(-1), 0.0).sum(-1)


def open_slot(prefix: Tensor) -> Tensor:
    """Prefixes [B, T] with one more slot, still empty: [B, T + 1]."""
    return nn.functional.pad(prefix, (0, 1), value=-1)


def at_next(logits: Tensor) -> Tensor:
    """Log-softmax of a slot's logits [B, N]; all -inf for requests without a candidate.

    Candidates that cannot follow keep -inf.
    """
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
    # A stable sort resolves ties the same way for any padding; topk does not promise that.
    order = masked.sort(dim=-1, descending=True, stable=True).indices[..., :keep]
    order = order.masked_fill(~mask.gather(-1, order), -1)
    if keep < slots:
        order = nn.functional.pad(order, (0, slots - keep), value=-1)
    return order
