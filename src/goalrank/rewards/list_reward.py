"""The list reward model: probability of each feedback kind at each slot of an ordered list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.nn import (
    Block,
    Linear,
    at_least_single,
    divisor,
    mlp,
    softmax_cross_entropy,
    take_rows,
    zeroed,
)
from goalrank.requests import Batch, InputSpec
from goalrank.rewards.base import Reward

Link = Literal["sum", "product"]
_EXAMINED = 3.0  # logit of a slot's examination probability before training: 0.95


class _Encoded(NamedTuple):
    candidates: Tensor  # [B, N, D]
    item_logits: Tensor  # [B, N, K'] part of the logits that does not depend on the list
    likeness: Tensor  # [B, N, R, D/R], unit length


class ListReward(Reward):
    """r̂(l|u) = Σ_slots Σ_kinds weight · p(kind at slot | user, history, ordered list).

    Slots attend to one another (to earlier ones only when `causal`, which suits feeds read top
    down and makes every prefix of a logged list a valid list). Likeness of each slot to the
    earlier ones is an explicit input: it is what fatigue and complementarity act through, and it
    is hard to learn from logged lists alone. Linear scores of the plain features are part of an
    item's logits, and networks begin at zero beside them. A network of sums learns taste slowly too, so the
    product of the user's context and the item's own vector is an input as well (Rendle et al.,
    2020, arXiv 2005.09683, on dot products against networks).

    What the item is worth alone and what the list does to it meet in one of two ways (`link`): their
    logits are added, or their probabilities multiplied, as attraction and examination are in click
    models (Craswell et al., WSDM 2008): a list can then only take away.

    Args:
        spec: input sizes; K feedback kinds come from it.
        sizes: of the request encoder; `layers` 0 keeps candidates independent of the set offered.
        kinds: names of the kinds that are predicted; all must be in [0, 1].
        weights: weight of each kind in the reward.
        list_layers: attention layers between slots; 0 with relations 0 and positions False is the
            order-blind, item-wise model.
        relations: number of learned likeness measures.
        slots: number of slot positions with their own vectors; later slots share the last one's.
        slot_weights: weight of each slot in the reward; None = 1 for all. Later slots take the
            last weight.
        causal: slots see earlier slots only.
        positions: whether slots have their own vectors, so that their rank counts.
        link: "sum" of logits or "product" of probabilities.
        neighbours: whether slots see one another; False leaves likeness out (relations count as 0)
            and lets each slot attend to itself alone: the same network, blind to the rest.
    """

    kind_weights: Tensor
    slot_weights: Tensor

    def __init__(
        self,
        spec: InputSpec,
        sizes: EncoderSizes,
        kinds: Sequence[str],
        weights: Sequence[float],
        *,
        list_layers: int = 1,
        relations: int = 4,
        slots: int = 12,
        slot_weights: Sequence[float] | None = None,
        causal: bool = True,
        positions: bool = True,
        link: Link = "sum",
        neighbours: bool = True,
    ) -> None:
        super().__init__()
        d = sizes.width
        relations = relations if neighbours else 0
        self.neighbours = neighbours
        self.sizes = sizes
        self.kinds = tuple(kinds)
        self.link = link
        self.causal = causal
        self.relations = relations
        self.kind_index = [spec.kinds.index(kind) for kind in kinds]
        self.wide = Wide(spec, len(self.kinds), probabilities=True)
        self.encoder = RequestEncoder(spec, sizes)
        self.position = nn.Parameter(torch.randn(slots, d) * 0.02) if positions else None
        self.likeness = Linear(d, d, bias=False) if relations else None
        self.likeness_in = Linear(3 * relations, d) if relations else None
        self.blocks = nn.ModuleList(
            [Block(d, sizes.heads, sizes.dropout) for _ in range(list_layers)]
        )
        self.norm = nn.LayerNorm(d)
        self.head = zeroed(nn.Linear(d, len(kinds)))
        if link == "product":
            nn.init.constant_(self.head.bias, _EXAMINED)
        self.item_head = zeroed(mlp(d, d, len(kinds)))
        self.taste = Linear(d, d)
        self.match = zeroed(nn.Linear(d, len(kinds), bias=False))
        self.register_buffer(
            "kind_weights", torch.tensor(list(weights), dtype=torch.float32), persistent=False
        )
        discount = torch.tensor(list(slot_weights or [1.0]), dtype=torch.float32)
        self.register_buffer("slot_weights", discount, persistent=False)

    def encode(self, batch: Batch, at: Tensor | None = None) -> _Encoded:
        """Encode what depends on the request alone; once for all its lists.

        Args:
            batch: the encoded requests.
            at: [B, M] positions of the candidates that lists will hold, where that is not all and
                `encoder.pointwise`; lists then hold positions on the M axis.
        """
        encoded = self.encoder(batch, at=at)
        likeness = encoded.items.new_zeros(())
        if self.likeness is not None:
            b, n, d = encoded.items.shape
            likeness = self.likeness(encoded.items).view(b, n, self.relations, d // self.relations)
            likeness = F.normalize(likeness, dim=-1)
        match = self.taste(encoded.context).unsqueeze(1) * encoded.items
        item_logits = self.item_head(encoded.candidates) + self.match(match)
        item_logits = item_logits + self.wide(batch, encoded.plain, at)
        return _Encoded(encoded.candidates, item_logits, likeness)

    def slot_logits(self, batch: Batch, lists: Tensor, encoded: _Encoded | None = None) -> Tensor:
        """Logits [B, G, L, K'] of the predicted kinds at every slot; undefined at empty slots."""
        encoded = self.encode(batch) if encoded is None else encoded
        b, g, slots = lists.shape
        at = lists.clamp_min(0).view(b, g * slots)
        x = take_rows(encoded.candidates, at).view(b * g, slots, -1)
        item_logits = take_rows(encoded.item_logits, at).view(b, g, slots, -1)
        real = (lists >= 0).view(b * g, slots)
        if self.position is not None:
            slot = torch.arange(slots, device=lists.device).clamp_max(len(self.position) - 1)
            x = x + self.position[slot]
        if self.likeness_in is not None:
            picked = take_rows(encoded.likeness.flatten(2), at).view(
                b * g, slots, self.relations, -1
            )
            x = x + self.likeness_in(_likeness_before(picked, real))
        if not self.neighbours:
            x, real = x.view(-1, 1, x.shape[-1]), real.view(-1, 1)
        mask = None if self.causal else real.clone().index_fill_(1, at.new_zeros(1), True)
        for block in self.blocks:
            x = block(x, mask, causal=self.causal)
        list_logits = self.head(self.norm(x)).view(b, g, slots, -1)
        if self.link == "product":
            return _product(at_least_single(item_logits), at_least_single(list_logits))
        return at_least_single(item_logits + list_logits)

    def slot_probabilities(self, batch: Batch, lists: Tensor) -> Tensor:
        """Probabilities [B, G, L, K'] in [0, 1]; 0 at empty slots."""
        return self.slot_logits(batch, lists).sigmoid() * (lists >= 0).unsqueeze(-1)

    def forward(self, batch: Batch, lists: Tensor) -> Tensor:
        """Rewards [B, G] of lists [B, G, L]: the sum over their slots."""
        return self.by_slot(batch, lists).sum(-1)

    @property
    def has_slot_rewards(self) -> bool:
        """True: each slot has its reward."""
        return True

    def by_slot(self, batch: Batch, lists: Tensor) -> Tensor:
        """Reward [B, G, L] of each slot: probabilities by the kinds' weights and the slot's."""
        slot = torch.arange(lists.shape[-1], device=lists.device)
        weight = self.slot_weights[slot.clamp_max(len(self.slot_weights) - 1)]
        return (self.slot_probabilities(batch, lists) @ self.kind_weights) * weight

    def encoder_state(self) -> Mapping[str, Tensor]:
        """Weights of the request encoder by name."""
        return self.encoder.state_dict()

    def config(self) -> dict[str, Any]:
        """Constructor arguments without the `InputSpec`; plain JSON values."""
        return {
            "sizes": asdict(self.sizes),
            "kinds": list(self.kinds),
            "weights": self.kind_weights.tolist(),
            "list_layers": len(self.blocks),
            "relations": self.relations,
            "slots": 1 if self.position is None else len(self.position),
            "slot_weights": self.slot_weights.tolist(),
            "causal": self.causal,
            "positions": self.position is not None,
            "link": self.link,
            "neighbours": self.neighbours,
        }

    @classmethod
    def from_config(
        cls, spec: InputSpec, config: Mapping[str, Any], parts: Sequence[Reward]
    ) -> Self:
        """Make an unfitted model from what `config` described."""
        arguments = dict(config)
        sizes = EncoderSizes(**arguments.pop("sizes"))
        return cls(spec, sizes, **arguments)

    def loss(
        self,
        batch: Batch,
        lists: Tensor,
        feedback: Tensor,
        known: Tensor,
        encoded: _Encoded | None = None,
    ) -> Tensor:
        """Mean binary cross-entropy over slots with known feedback.

        Args:
            batch: the encoded requests.
            lists: [B, G, L].
            feedback: [B, G, L, K] all kinds of the table, in [0, 1] for those predicted.
            known: [B, G, L] True where the feedback counts.
            encoded: of the batch, if there is one already.
        """
        target = feedback[..., self.kind_index].clamp(0, 1)
        each = F.binary_cross_entropy_with_logits(
            self.slot_logits(batch, lists, encoded), target, reduction="none"
        ).mean(-1)
        return (each * known).sum() / divisor(known.sum())

    def listwise_loss(self, batch: Batch, feedback: Tensor, encoded: _Encoded) -> Tensor:
        """Cross-entropy over the candidates, each at the first slot of a separate list.

        Log losses train how probable feedback is; a group also needs the order of candidates. The
        kinds of the reward count by their weights.

        Args:
            batch: the encoded requests.
            feedback: [B, N, K] all kinds of the table, of every candidate.
            encoded: result of `encode`.

        Source: ListNet's top-one loss (Cao et al., 2007).
        """
        logits = self.slot_logits(batch, batch.lists_of_one, encoded)[:, :, 0]
        target = feedback[..., self.kind_index].clamp(0, 1)
        total = logits.new_zeros(())
        for k, weight in enumerate(self.kind_weights.tolist()):
            if weight > 0:
                part = softmax_cross_entropy(logits[..., k], target[..., k], batch.candidate_mask)
                total = total + weight * part
        return total


def _likeness_before(vectors: Tensor, real: Tensor) -> Tensor:
    """Similarity of each slot to earlier ones: maximum, sum and to the slot before; per measure.

    Args:
        vectors: [M, L, R, A] of unit length.
        real: [M, L].

    Returns:
        [M, L, 3R].
    """
    slots = vectors.shape[1]
    by_measure = vectors.transpose(1, 2)  # [M, R, L, A]
    likeness = by_measure @ by_measure.transpose(-1, -2)  # [M, R, L, L]
    before = torch.ones(slots, slots, dtype=torch.bool, device=vectors.device).tril(-1)
    before = before & real[:, None, None, :]
    greatest = likeness.masked_fill(~before, -1.0).amax(-1)
    total = (likeness * before).sum(-1)
    last = F.pad(likeness.diagonal(offset=-1, dim1=-2, dim2=-1), (1, 0))
    return torch.cat([greatest, total, last], 1).transpose(1, 2)


def _product(first: Tensor, second: Tensor) -> Tensor:
    """Logit of the product of two probabilities given by their logits."""
    log_p = F.logsigmoid(first) + F.logsigmoid(second)
    # Two certain factors round to log 1 = 0 in single precision; below 0 the logit stays finite.
    return log_p - torch.log(-torch.expm1(log_p.clamp_max(-1e-30)))
