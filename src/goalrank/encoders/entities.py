"""Embedding of items or users by id and by features."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from goalrank.encoders.id_table import IdTable
from goalrank.nn import Linear
from goalrank.requests import EntityTable

_CATEGORY_WIDTH = 32


class EntityEmbedding(nn.Module):
    """Embedding of items or users: the sum of an id embedding and projected features.

    In training, a share of the ids is replaced by their hashed buckets. This trains the buckets,
    and the features of items with unknown ids.

    Args:
        ids: rows of the id table (padding, known ids, buckets); 0 leaves ids out.
        numeric: numeric features per row.
        category: rows of the joint category table.
        category_width: M, category values per row.
        width: D.
        id_dropout: share in [0, 1] of ids replaced by their bucket in training.
        id_width: width of the id table, mapped to D by a matrix that all ids share; 0 is D. Fewer
            numbers per id need fewer events to learn, and a table of many ids is smaller
            (factorised embeddings: Lan et al., ICLR 2020, arXiv 1909.11942, section 3.1).
    """

    def __init__(
        self,
        ids: int,
        numeric: int,
        category: int,
        category_width: int,
        width: int,
        id_dropout: float = 0.05,
        id_width: int = 0,
    ) -> None:
        super().__init__()
        self.width = width
        self.id_dropout = id_dropout
        narrow = 0 < id_width < width
        self.ids = IdTable(ids, id_width if narrow else width) if ids else None
        self.ids_out = Linear(id_width, width, bias=False) if ids and narrow else None
        self.numeric = Linear(numeric, width) if numeric else None
        inner = min(width, _CATEGORY_WIDTH)
        has_category = category_width > 0
        self.category = (
            nn.EmbeddingBag(category, inner, mode="sum", padding_idx=0) if has_category else None
        )
        self.category_out = Linear(inner, width, bias=False) if has_category else None

    def forward(self, table: EntityTable, rows: Tensor) -> Tensor:
        """Embed entities.

        Args:
            table: features of the entities.
            rows: [...] rows of the table.

        Returns:
            [..., D].
        """
        flat = rows.reshape(-1)
        parts = list(self._parts(table, flat))
        out = sum(parts[1:], parts[0]) if parts else self._nothing(flat)
        return out.view(*rows.shape, self.width)

    def _parts(self, table: EntityTable, flat: Tensor) -> Iterator[Tensor]:
        """Vectors [n, D] of rows [n], by id and by each kind of feature."""
        if self.ids is not None:
            vectors = self.ids(self._id_rows(table, flat))
            yield vectors if self.ids_out is None else self.ids_out(vectors)
        if self.numeric is not None:
            yield self.numeric(table.numeric.index_select(0, flat).clamp(-8, 8))
        if self.category is not None and self.category_out is not None:
            weights = table.category_weight.index_select(0, flat)
            bags = self.category(
                table.category.index_select(0, flat),
                per_sample_weights=weights.to(self.category.weight.dtype),
            )
            yield self.category_out(bags)

    def _nothing(self, flat: Tensor) -> Tensor:
        return torch.zeros(flat.shape[0], self.width, device=flat.device)

    def _id_rows(self, table: EntityTable, flat: Tensor) -> Tensor:
        if self.training and self.id_dropout > 0:
            # Like dropout, the replacement depends on the step: it uses the global generator.
            replaced = torch.rand(flat.shape, device=flat.device) < self.id_dropout
            own, bucket = (t.index_select(0, flat) for t in (table.id_row, table.bucket_row))
            return torch.where(replaced, bucket, own)
        return table.id_row.index_select(0, flat)
