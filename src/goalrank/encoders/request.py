"""Encoder of requests: one vector per candidate and one for the user's context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from goalrank.encoders.entities import EntityEmbedding
from goalrank.encoders.history_events import HistoryEvents
from goalrank.encoders.plain import PlainFeatures
from goalrank.nn import (
    CHUNK_ROWS,
    Attention,
    Block,
    InducedBlock,
    Linear,
    attention_bias,
    in_chunks,
    mlp,
    take_rows,
)
from goalrank.requests import Batch, InputSpec


class Encoded(NamedTuple):
    """A batch of encoded requests.

    Attributes:
        candidates: [B, N, D] encoded candidates.
        context: [B, D] encoded user and history.
        items: [B, N, D] item embeddings of the candidates, without user, history and each other.
        plain: [B, N, P] plain features of the candidates.
    """

    candidates: Tensor
    context: Tensor
    items: Tensor
    plain: Tensor


@dataclass(frozen=True)
class EncoderSizes:
    """Sizes of a `RequestEncoder`.

    Attributes:
        width: D.
        layers: self-attention layers over the candidates; 0 encodes each candidate separately.
        heads: attention heads.
        dropout: probability of dropout in training.
        id_dropout: share of item ids replaced by their hashed bucket in training.
        inducing: 0 for full attention; M > 0 for induced set attention through M points (large N).
        user_ids: learn a vector per user id in addition to features and history.
        id_width: numbers learned per id, mapped to `width` by a shared matrix; 0 is `width`.
    """

    width: int = 64
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1
    id_dropout: float = 0.05
    inducing: int = 0
    user_ids: bool = False
    id_width: int = 0


class RequestEncoder(nn.Module):
    """Encoder of user, history and candidates.

    Candidates have no positions, so permuting them permutes the output. Each candidate attends to
    the history (with feedback, age, place and gap of every event) and, through `layers` blocks, to the other
    candidates. The product of the user's context and the item embedding is an input too, because a
    network of sums learns preferences slowly (Rendle et al., 2020, arXiv 2005.09683, on dot
    products).

    Args:
        spec: shapes of the batches.
        sizes: sizes of the network.

    Attributes:
        chunk_rows: requests × candidates encoded at once. More candidates are encoded in chunks,
            with the same result; beyond keys, values and output the memory is then bounded.
    """

    def __init__(self, spec: InputSpec, sizes: EncoderSizes) -> None:
        super().__init__()
        self.chunk_rows = CHUNK_ROWS
        d = sizes.width
        self.items = EntityEmbedding(
            spec.item_ids, spec.item_numeric, spec.item_category, spec.item_category_width, d,
            sizes.id_dropout, sizes.id_width,
        )  # fmt: skip
        self.users = EntityEmbedding(
            spec.user_ids if sizes.user_ids else 0,
            spec.user_numeric, spec.user_category, spec.user_category_width, d, sizes.id_dropout,
            sizes.id_width,
        )  # fmt: skip
        self.event = HistoryEvents(d)
        self.no_event = nn.Parameter(torch.randn(1, 1, d) * 0.02)
        self.pool = nn.Linear(d, 1)
        self.context = nn.LayerNorm(d)
        self.features = PlainFeatures(spec)
        self.plain = mlp(self.features.width, d, d) if self.features.width else None
        self.norm_items = nn.LayerNorm(d)
        self.norm_history = nn.LayerNorm(d)
        self.cross = Attention(d, sizes.heads, sizes.dropout)
        self.mix = Linear(d, d)
        self.taste = Linear(d, d)
        self.match = Linear(d, d, bias=False)
        make = (
            (lambda: InducedBlock(d, sizes.heads, sizes.inducing, sizes.dropout))
            if sizes.inducing
            else (lambda: Block(d, sizes.heads, sizes.dropout))
        )
        self.blocks = nn.ModuleList([make() for _ in range(sizes.layers)])
        self.out = nn.LayerNorm(d)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load weights, also of version 0.1.0, whose plain features were fewer."""
        name = f"{prefix}plain.0.weight"
        if self.plain is not None and name in state:
            state[name] = self.features.widened(state[name])
        super()._load_from_state_dict(state, prefix, *rest)

    @property
    def pointwise(self) -> bool:
        """Whether candidates are encoded one by one, but for numbers relative to the request."""
        return not self.blocks

    def forward(
        self, batch: Batch, extra: Tensor | None = None, at: Tensor | None = None
    ) -> Encoded:
        """Encode a batch.

        Args:
            batch: B requests.
            extra: [B, N, D] added to the candidates before self-attention, such as positions.
            at: [B, M] the only positions to encode; N is then M in the result. Their vectors equal
                those among all candidates, so this needs an encoder without layers.

        Raises:
            ValueError: `at` given to an encoder with layers.
        """
        if at is not None and not self.pointwise:
            raise ValueError("an encoder with layers between candidates encodes all of them")
        rows = batch.candidates if at is None else batch.candidates.gather(1, at)
        items, events = self._embedded(batch, rows)
        history, mask = self._history(batch, events)
        weight = (self.pool(history).squeeze(-1) + mask).softmax(-1)
        pooled = (weight.unsqueeze(1) @ history).squeeze(1)
        context = self.context(pooled + self.users(batch.users, batch.user))
        keys, values = self.cross.keys_values(history)
        shift, taste = self.mix(context).unsqueeze(1), self.taste(context).unsqueeze(1)

        def add_user(x: Tensor, plain: Tensor | None = None) -> Tensor:
            x = x + self.match(taste * x)
            if self.plain is not None:
                x = x + self.plain(plain)
            out: Tensor = x + self.cross.attend(self.norm_items(x), keys, values, mask) + shift
            return out

        plain = self.features(batch)
        plain = plain if at is None else take_rows(plain, at)
        parts = (items,) if self.plain is None else (items, plain)
        x = in_chunks(add_user, *parts, rows=self.chunk_rows)
        if extra is not None:
            x = x + extra
        if self.blocks:
            real = attention_bias(batch.candidate_mask, x.dtype)
            for block in self.blocks:
                x = block(x, real, rows=self.chunk_rows)
        return Encoded(self.out(x), context, items, plain)

    def _embedded(self, batch: Batch, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Item embeddings of candidates [B, N, D] and of the history's events [B, H, D]."""
        vectors = self.items(batch.items, torch.cat([rows, batch.history], 1))
        count = rows.shape[1]
        return vectors[:, :count].contiguous(), vectors[:, count:].contiguous()

    def _history(self, batch: Batch, events: Tensor) -> tuple[Tensor, Tensor]:
        """History vectors [B, 1+H, D], of which the first is always present, and their bias."""
        first = self.no_event.expand(events.shape[0], -1, -1)
        mask = nn.functional.pad(batch.history_mask, (1, 0), value=True)
        history = self.norm_history(torch.cat([first, events + self.event.of(batch)], 1))
        return history, attention_bias(mask, history.dtype)
