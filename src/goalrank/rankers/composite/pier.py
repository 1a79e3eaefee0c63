"""PIER: permutation-level interest-based reranking (Shi et al., 2023, arXiv 2302.03487)."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goalrank.encoders import EncoderSizes, RequestEncoder, Wide
from goalrank.errors import ConfigError
from goalrank.nn import Attention, FeedForward, at_least_single, divisor, gumbel, mlp, zeroed
from goalrank.rankers.base import top_slots
from goalrank.rankers.composite.pool import Pool, PoolPolicy
from goalrank.rankers.history_vectors import HistoryVectors
from goalrank.rankers.initial_order import pointwise_loss
from goalrank.rankers.logged_lists import gather_lists, labelled_lists, list_relevance, slot_loss
from goalrank.requests import Batch, InputSpec


class _Encoded(NamedTuple):
    candidates: Tensor  # [B, N, D]
    items: Tensor  # [B, N, D]
    history: Tensor  # [B, 1+H, D]
    history_mask: Tensor  # [B, 1+H]
    item_logits: Tensor  # [B, N]
    wide: Tensor  # [B, N, 1] linear scores


class PIER(PoolPolicy):
    """A policy over permutations near the user's permutation-level interests.

    - FPSM: a permutation's vector is Σ_t w_t ⊙ x_t with a learned w per slot; the user's interests
      are such vectors of the latest runs of L history events. Both are hashed by SimHash (signs of
      `bits` fixed random projections). Of `proposals` permutations the `keep` nearest in mean
      Hamming distance are kept (ties: by item-level scores).
    - OCPM: omnidirectional attention, in which every slot attends to the other slots, to the
      history and to the whole candidate set, gives p(feedback) at every slot; the value of a list
      is the sum.
    - Joint loss: binary cross-entropy of the slots + `contrast` · a contrastive loss that moves
      permutations with good feedback towards the user's interests and random ones away.

    Differences to the paper: it hashes all permutations of a short list. P(N, L) permutations are
    too many here, so the proposals are the item-level order and samples around it; the item-level
    model is trained jointly. The contrastive pairs are the labelled lists against random lists of
    the same request, with cosine similarity over temperature 0.2. Attention per feature field
    becomes attention heads. Users without a history keep the proposals with the highest scores.

    Args:
        spec: shapes of the batches.
        sizes: sizes of the network.
        slots: slots with their own vectors; later ones share the last.
        proposals: permutations to hash per request.
        keep: permutations to value per request.
        spread: scale of the Gumbel noise around the item-level order, at least 0. The hash measures
            interest and not quality, so all proposals should be good lists.
        bits: bits of the hash.
        contrast: weight of the contrastive loss.
        seed: seed of hash and proposals.

    Raises:
        ConfigError: `spread` is negative.
    """

    planes: Tensor

    def __init__(
        self,
        spec: InputSpec,
        sizes: EncoderSizes,
        slots: int = 6,
        *,
        proposals: int = 100,
        keep: int = 20,
        spread: float = 1.0,
        bits: int = 32,
        contrast: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        d = sizes.width
        if spread < 0:
            raise ConfigError(
                f"spread {spread} must not be negative; option: ranker.options.spread"
            )
        self.proposals, self.keep, self.spread = proposals, keep, spread
        self.contrast, self.seed = contrast, seed
        self.encoder = RequestEncoder(spec, replace(sizes, layers=0))
        self.history = HistoryVectors(d)
        self.wide = Wide(spec, probabilities=True)
        self.like = zeroed(mlp(d, d, 1, dropout=sizes.dropout))
        self.weigh = nn.Parameter(1.0 + torch.randn(slots, d) * 0.2)
        rng = torch.Generator().manual_seed(seed)
        self.register_buffer("planes", torch.randn(d, bits, generator=rng))
        self.position = nn.Parameter(torch.randn(slots, d) * 0.02)
        self.blocks = nn.ModuleList([_Omni(d, sizes) for _ in range(max(sizes.layers, 1))])
        self.out = nn.LayerNorm(d)
        self.head = zeroed(nn.Linear(d, 1))

    def _encode(self, batch: Batch) -> _Encoded:
        encoded = self.encoder(batch)
        history = self.history(self.encoder.items, batch)
        history = torch.cat([encoded.context[:, None, :], history], 1)
        mask = F.pad(batch.history_mask, (1, 0), value=True)
        wide = self.wide(batch, encoded.plain)
        item_logits = (at_least_single(self.like(encoded.candidates)) + wide).squeeze(-1)
        return _Encoded(encoded.candidates, encoded.items, history, mask, item_logits, wide)

    def _slot_rows(self, table: Tensor, slots: int) -> Tensor:
        return table[torch.arange(slots, device=table.device).clamp_max(len(table) - 1)]

    def _permutations(self, items: Tensor, lists: Tensor) -> Tensor:
        """Vectors [B, G, D] of lists."""
        weigh = self._slot_rows(self.weigh, lists.shape[-1])
        return (gather_lists(items, lists) * weigh).sum(2)

    def _interests(self, batch: Batch, slots: int) -> tuple[Tensor, Tensor]:
        """Vectors [B, W, D] of the latest runs of L events, and which runs hold events [B, W]."""
        h = batch.history.shape[1]
        runs = -(-h // slots)  # the oldest run may be shorter; padding adds empty runs
        length = batch.history_mask.sum(-1, keepdim=True)
        at = length - runs * slots + torch.arange(runs * slots, device=length.device)
        ok = (at >= 0) & (at < h)
        rows = batch.history.gather(1, at.clamp(0, h - 1)) * ok
        events = self.encoder.items(batch.items, rows) * ok.unsqueeze(-1)
        weigh = self._slot_rows(self.weigh, slots)
        vectors = (events.unflatten(1, (runs, slots)) * weigh).sum(2)
        return vectors, ok.unflatten(1, (runs, slots)).any(-1)

    def pool(self, batch: Batch, slots: int) -> Pool:
        """The kept permutations with their OCPM values."""
        encoded = self._encode(batch)
        noise = self.spread * gumbel(batch.key ^ self.seed, batch.candidates, self.proposals)
        noise[:, 0] = 0.0
        keys = encoded.item_logits[:, None, :] + noise
        lists = top_slots(keys, batch.candidate_mask[:, None, :].expand_as(keys), slots)
        kept = self._select(encoded, batch, lists)
        lists = lists.gather(1, kept[..., None].expand(-1, -1, slots))
        p = self._slot_logits(encoded, batch.candidate_mask, lists).sigmoid()
        return Pool(lists, (p * (lists >= 0)).sum(-1))

    def _select(self, encoded: _Encoded, batch: Batch, lists: Tensor) -> Tensor:
        """FPSM: indices [B, keep] of the proposals nearest to the user's interests."""
        interests, real = self._interests(batch, lists.shape[-1])
        signs = torch.sign(self._permutations(encoded.items, lists) @ self.planes)
        user_signs = torch.sign(interests @ self.planes) * real.unsqueeze(-1)
        # Mean agreement of bits: 1 - 2 · Hamming / bits.
        near = (signs @ user_signs.transpose(1, 2)).sum(-1) / real.sum(-1, keepdim=True).clamp_min(
            1
        )
        p = gather_lists(encoded.item_logits.sigmoid().unsqueeze(-1), lists).squeeze(-1)
        slot = torch.arange(lists.shape[-1], device=lists.device)
        value = (p / torch.log2(slot + 2.0)).sum(-1)
        keys = at_least_single(near) + 1e-3 * value  # far less than one bit: breaks ties only
        return keys.sort(dim=-1, descending=True, stable=True).indices[:, : self.keep]

    def _slot_logits(self, encoded: _Encoded, mask: Tensor, lists: Tensor) -> Tensor:
        """OCPM: logits [B, G, L] of feedback at every slot."""
        x = gather_lists(encoded.candidates, lists) + self._slot_rows(
            self.position, lists.shape[-1]
        )
        for block in self.blocks:
            x = block(x, lists >= 0, encoded.history, encoded.history_mask,
                      encoded.candidates, mask)  # fmt: skip
        logits = at_least_single(self.head(self.out(x))) + gather_lists(encoded.wide, lists)
        return logits.squeeze(-1)

    def loss(self, batch: Batch, slots: int) -> Tensor:
        """Joint loss on labelled lists, a scalar."""
        encoded = self._encode(batch)
        lists = labelled_lists(batch, slots, encoded.item_logits)
        gain, real = list_relevance(batch, lists), lists >= 0
        logits = self._slot_logits(encoded, batch.candidate_mask, lists)
        loss = pointwise_loss(encoded.item_logits, batch) + slot_loss(logits, gain, real)
        if self.contrast:
            loss = loss + self.contrast * self._contrastive(encoded, batch, lists, gain)
        return loss

    def _contrastive(self, encoded: _Encoded, batch: Batch, lists: Tensor, gain: Tensor) -> Tensor:
        """InfoNCE of lists with good feedback against 8 random lists of the same request."""
        seed = torch.randint(-(2**62), 2**62, (1,)).to(batch.key.device)
        noise = gumbel(batch.key ^ seed, batch.candidates, 8)
        mask = batch.candidate_mask[:, None, :].expand_as(noise)
        others = self._permutations(encoded.items, top_slots(noise, mask, lists.shape[-1]))
        labelled = self._permutations(encoded.items, lists)
        interests, real = self._interests(batch, lists.shape[-1])
        weight = real / real.sum(-1, keepdim=True).clamp_min(1)
        interests = F.normalize(interests, dim=-1) * weight.unsqueeze(-1)

        def near(vectors: Tensor) -> Tensor:
            return (F.normalize(vectors, dim=-1) @ interests.transpose(1, 2)).sum(-1) / 0.2

        positive = near(labelled)  # [B, G]
        negative = near(others).logsumexp(-1, keepdim=True).expand_as(positive)
        each = torch.logaddexp(positive, negative) - positive
        share = gain.sum(-1) / (lists >= 0).sum(-1).clamp_min(1)
        counts = share * real.any(-1, keepdim=True)
        return (each * counts).sum() / divisor(counts.sum())


class _Omni(nn.Module):
    """A block in which slots attend to the list, the history and the candidates."""

    def __init__(self, width: int, sizes: EncoderSizes) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.to_list = Attention(width, sizes.heads, sizes.dropout)
        self.to_history = Attention(width, sizes.heads, sizes.dropout)
        self.to_set = Attention(width, sizes.heads, sizes.dropout)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, 4, sizes.dropout)

    def forward(
        self,
        x: Tensor,
        real: Tensor,
        history: Tensor,
        history_mask: Tensor,
        candidates: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """Map slot vectors [B, G, L, D] to the same shape; `real` [B, G, L]."""
        b, g, slots, d = x.shape
        y = self.norm(x)
        rows = y.view(b * g, slots, d)
        first = torch.arange(slots, device=x.device) == 0  # an empty list attends to one slot
        from_list = self.to_list(rows, rows, real.view(b * g, slots) | first).view(x.shape)
        flat = y.view(b, g * slots, d)
        from_history = self.to_history(flat, history, history_mask).view(x.shape)
        from_set = self.to_set(flat, candidates, mask).view(x.shape)
        x = x + from_list + from_history + from_set
        out: Tensor = x + self.feed_forward(self.norm2(x))
        return out
