"""Padded tensors of B requests, and the feature tables that they point into."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class EntityTable:
    """Encoded ids and features of items or of users; batches hold rows of it.

    Row 0 is padding. All tensors have R rows.

    Attributes:
        id_row: [R] row of the id embedding (0 padding, known ids, hashed buckets).
        bucket_row: [R] the hashed bucket of the same id, whether the id is known or not.
        numeric: [R, Fn] standardised numbers.
        category: [R, M] rows of the joint category table, 0 is padding.
        category_weight: [R, M] weights that turn a weighted sum into a mean, per column.
    """

    id_row: Tensor
    bucket_row: Tensor
    numeric: Tensor
    category: Tensor
    category_weight: Tensor

    def __len__(self) -> int:
        return len(self.id_row)

    def to(self, device: torch.device | str) -> EntityTable:
        """The same table on another device (itself if it is there already)."""
        if self.id_row.device == torch.device(device):
            return self
        return EntityTable(*(getattr(self, f.name).to(device) for f in fields(self)))


@dataclass(frozen=True)
class InputSpec:
    """Sizes that models are built from; what an `Encoder` learned, without its contents.

    The last `model_scores` of the candidate features are scores of other models. `item_vectors`
    are the lengths of the vectors that the item numbers end with; empty also where models read
    vectors as single numbers, as those of earlier versions do.
    """

    item_ids: int
    item_numeric: int
    item_category: int
    item_category_width: int
    user_ids: int
    user_numeric: int
    user_category: int
    user_category_width: int
    candidate_features: int
    has_score: bool
    kinds: tuple[str, ...]
    item_buckets: int = 1
    user_buckets: int = 1
    model_scores: int = 0
    item_vectors: tuple[int, ...] = ()


@dataclass(frozen=True)
class Batch:
    """B requests, padded. Lists index the N axis of `candidates`.

    Attributes:
        index: [B] rows in the `EncodedRequests` they came from.
        key: [B] int64 hash of request_id; sampling noise depends on it and not on neighbours.
        items, users: feature tables that the rows below point into.
        user: [B] rows of `users`.
        history: [B, H] rows of `items`, oldest first; 0 where padded.
        history_mask: [B, H].
        history_feedback: [B, H] as logged.
        history_age: [B, H] log1p of hours between the event and the request.
        candidates: [B, N] rows of `items`; 0 where padded.
        candidate_mask: [B, N].
        candidate_score: [B, N] the retriever's score, standardised over training; 0 if absent.
        candidate_features: [B, N, F] standardised over training.
        shown: [B, S] positions on the N axis in the order shown; -1 where padded.
        feedback: [B, S, K] feedback to the shown, 0 where padded.
        relevance: [B, N] the target kind's feedback on each candidate, 0 if not shown.
        observed: [B, N] True where `relevance` is known: the shown candidates under the exposed
            protocol, every candidate under the others.
        propensity: [B] probability of the shown list under the logging policy; NaN if unknown.
    """

    index: Tensor
    key: Tensor
    items: EntityTable
    users: EntityTable
    user: Tensor
    history: Tensor
    history_mask: Tensor
    history_feedback: Tensor
    history_age: Tensor
    candidates: Tensor
    candidate_mask: Tensor
    candidate_score: Tensor
    candidate_features: Tensor
    shown: Tensor
    feedback: Tensor
    relevance: Tensor
    observed: Tensor
    propensity: Tensor

    @property
    def lists_of_one(self) -> Tensor:
        """[B, N, 1] positions: each candidate as a list of one."""
        b, n = self.candidates.shape
        return torch.arange(n, device=self.candidates.device).view(1, n, 1).expand(b, n, 1)

    @property
    def size(self) -> int:
        """B."""
        return int(self.candidates.shape[0])

    @property
    def shown_mask(self) -> Tensor:
        """[B, S] True where something was shown."""
        return self.shown >= 0

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        if self.candidates.device == torch.device(device):
            return self
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory (the tables stay where they are)."""
        return replace(
            self,
            **{
                f.name: getattr(self, f.name).pin_memory()
                for f in fields(self)
                if isinstance(getattr(self, f.name), Tensor)
            },
        )
