"""HSTU: hierarchical sequential transduction units (Zhai et al., 2024, arXiv 2402.17152)."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.nn import CHUNK_ROWS, Linear, at_least_single, dropout, in_chunks, zeroed
from goalrank.rankers.base import Scorer
from goalrank.rankers.config import check_divides
from goalrank.rankers.history_vectors import HistoryVectors
from goalrank.rankers.initial_order import pointwise_loss
from goalrank.requests import Batch, InputSpec

_MAX_DISTANCE = 255  # positions further apart share a bias
_TIME_BUCKETS = 128
_BUCKET = 0.301  # natural logarithm of seconds per bucket, as in the authors' code
_BEFORE_ALL = 30.0  # age of the start token, log1p of hours: before any event


class HSTU(Scorer):
    """A scorer that reads each candidate as the next event of a gated, pointwise attention.

    A layer maps the normalised input to U, V, Q and K, each through SiLU. Attention weights are
    SiLU(Q Kᵀ + bias), without a softmax; the bias depends on how many positions and how much time
    lie between query and key. The result, normalised and
    multiplied by U, goes through one linear map and is added to the input (eq. 1 to 3).

    Candidates are targets as in the paper's ranking task: each attends to the history and to
    itself, not to other candidates, so that keys and values of the history are computed once for
    all of them (M-FALCON, section 3.4).

    The paper's settings on MovieLens-1M: 2 layers and 1 head, or 8 and 2 (`sizes.layers`,
    `attention_heads`), 50 dimensions (`sizes.width`), dropout 0.2, the latest 200 events (all that
    a request holds), 128 buckets of time.

    Differences to the paper: feedback is part of an event's vector and not an event of its own,
    and age and gap are too. The score is a linear map of the last layer beside one of the encoded
    candidate, so that inputs are those of the other rankers. Weights are not divided by the length of the history; the normalisation
    after them takes any constant out. The loss is the one of the ranking task, binary cross-entropy
    on candidates with known feedback.

    Args:
        spec: shapes of the batches.
        sizes: sizes of the network.
        attention_heads: heads of the layers; must divide the width.
        sequence: False leaves the layers out (for ablation).

    Raises:
        ConfigError: `attention_heads` does not divide the width.
    """

    def __init__(
        self,
        spec: InputSpec,
        sizes: EncoderSizes,
        *,
        attention_heads: int = 1,
        sequence: bool = True,
    ) -> None:
        super().__init__()
        d = sizes.width
        self.chunk_rows = CHUNK_ROWS // 4
        self.sequence = sequence
        self.encoder = RequestEncoder(spec, replace(sizes, layers=0))
        if sequence:
            check_divides(attention_heads, d, "attention heads", "attention_heads")
            self.history = HistoryVectors(d)
            self.start = nn.Parameter(torch.randn(1, 1, d) * 0.02)
            self.layers = nn.ModuleList(
                [_Layer(d, attention_heads, sizes.dropout) for _ in range(max(sizes.layers, 1))]
            )
            self.norm = nn.LayerNorm(d)
        self.wide = Wide(spec, probabilities=True)
        self.head = zeroed(nn.Linear((1 + sequence) * d, 1))

    def scores(self, batch: Batch) -> Tensor:
        """Score the candidates: [B, N]."""
        encoded = self.encoder(batch)
        x = encoded.candidates
        if self.sequence:
            x = torch.cat([x, self._read(encoded.items, batch)], -1)
        scores = at_least_single(self.head(x)) + self.wide(batch, encoded.plain)
        out: Tensor = scores.squeeze(-1)
        return out

    def _read(self, items: Tensor, batch: Batch) -> Tensor:
        """Items [B, N, D] after all layers, each as the event after the history: [B, N, D]."""
        events = self.history(self.encoder.items, batch)
        x = torch.cat([self.start.expand(len(events), -1, -1), events], 1)
        age = torch.nn.functional.pad(batch.history_age, (1, 0), value=_BEFORE_ALL)
        place = torch.arange(x.shape[1], device=x.device)
        end = batch.history_mask.sum(-1, keepdim=True) + 1  # place of the request
        real = place < end
        within = _distances(place[:, None] - place, age[:, :, None], age[:, None, :])
        before = _distances(end - place, torch.zeros_like(end), age)
        # Padding stands last, so no event before it attends to it.
        causal = (place[:, None] >= place).to(x.dtype)
        layers = cast(list[_Layer], list(self.layers))
        seen = []
        for layer in layers:
            u, v, q, k = layer.projections(x)
            seen.append((k, v, layer.bias(before)[:, None, None, :]))
            weights = silu(q @ k.mT + layer.bias(within)[:, None]) * causal
            x = layer.output(x, u, weights @ v)
        shown = real[:, None, None, :].to(x.dtype)

        def read(targets: Tensor) -> Tensor:
            for layer, (k, v, bias) in zip(layers, seen):
                u, own, q, key = layer.projections(targets)
                met = (silu(q @ k.mT + bias) * shown) @ v
                itself = silu((q * key).sum(-1, keepdim=True) + layer.own_bias) * own
                targets = layer.output(targets, u, met + itself)
            out: Tensor = self.norm(targets)
            return out

        return in_chunks(read, self.history.norm(items), rows=self.chunk_rows)

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Binary cross-entropy on candidates with known feedback, a scalar."""
        return pointwise_loss(self.scores(batch), batch)


class _Distances(NamedTuple):
    """Positions, and buckets of time, between queries and keys."""

    places: Tensor
    buckets: Tensor


def _distances(places: Tensor, query_age: Tensor, key_age: Tensor) -> _Distances:
    """Cut off differences of position, and bucket those of ages (log1p of hours)."""
    seconds = (key_age.double().expm1() - query_age.double().expm1()).abs() * 3600
    buckets = (seconds.clamp_min(1).log() / _BUCKET).long().clamp_max(_TIME_BUCKETS - 1)
    return _Distances(places.clamp(0, _MAX_DISTANCE), buckets)


class _Layer(nn.Module):
    """One unit: pointwise projections, biased attention weights, gated output."""

    def __init__(self, width: int, heads: int, drop: float) -> None:
        super().__init__()
        self.heads, self.drop = heads, drop
        self.norm = nn.LayerNorm(width)
        self.project = Linear(width, 4 * width)
        self.attended = nn.LayerNorm(width)
        self.out = Linear(width, width)
        self.by_place = nn.Parameter(torch.randn(_MAX_DISTANCE + 1) * 0.02)
        self.by_time = nn.Parameter(torch.randn(_TIME_BUCKETS) * 0.02)

    def projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """U [B, T, D], and V, Q and K [B, heads, T, D / heads], of x [B, T, D]."""
        b, t, d = x.shape
        u, *rest = silu(self.project(self.norm(x))).chunk(4, -1)
        v, q, k = (part.view(b, t, self.heads, d // self.heads).transpose(1, 2) for part in rest)
        return u, v, q, k

    def bias(self, distances: _Distances) -> Tensor:
        """Added to the products of queries and keys, in the shape of the distances."""
        return self.by_place[distances.places] + self.by_time[distances.buckets]

    @property
    def own_bias(self) -> Tensor:
        """The bias of a position to itself."""
        return self.by_place[0] + self.by_time[0]

    def output(self, x: Tensor, u: Tensor, attended: Tensor) -> Tensor:
        """Gate the attended values [B, heads, T, D / heads] by U and add them to x [B, T, D]."""
        gated = self.attended(attended.transpose(1, 2).reshape(x.shape)) * u
        return x + dropout(self.out(gated), self.drop, self.training)
