"""Plain features of candidates: numbers that a linear model can use."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from goalrank.encoders.vector_similarity import history_similarity
from goalrank.requests import Batch, InputSpec

_LARGEST = 8.0  # standardised values beyond it are clipped
SMALLEST_VARIANCE = 1e-4
MOST_ITEM_NUMBERS = 32  # numbers of the item's side table


class PlainFeatures(nn.Module):
    """Each number of a candidate in three encodings, without parameters.

    The numbers are the candidate features, the retriever's score, the first `MOST_ITEM_NUMBERS`
    numbers of the item's side table (a missing one has its flag among them), and, per vector of the
    side table, its similarity to the history. The numbers of a vector are left to networks: one by
    one they mean little, and there are many. Each is given

    - as it is, standardised over training (similarities: in [-1, 1]) and clipped to [-8, 8];
    - relative to the request: less the mean of the request's candidates, over their deviation;
    - as its rank within the request, from -0.5 (lowest) to 0.5; equal values share the mean rank.

    Ranks do not change when the scale of a feature drifts, which absolute bins do not survive.

    Args:
        spec: shapes of the batches.

    Attributes:
        width: P, numbers per candidate; 0 where there are none.
        is_model_score: [P] which of them come from scores of other models.
    """

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.has_score = spec.has_score
        self.vectors = spec.item_vectors
        self.item_numbers = min(spec.item_numeric - sum(self.vectors), MOST_ITEM_NUMBERS)
        self.numbers = spec.candidate_features + int(spec.has_score) + self.item_numbers
        self.numbers += len(self.vectors)
        self.width = 3 * self.numbers
        made = torch.zeros(self.numbers, dtype=torch.bool)
        made[spec.candidate_features - spec.model_scores : spec.candidate_features] = True
        self.is_model_score = made.repeat(3)

    def forward(self, batch: Batch) -> Tensor:
        """Encode the candidates of a batch: [B, N, P]; padding gets 0."""
        real = batch.candidate_mask
        if not self.width:
            return batch.candidate_score.new_zeros(*real.shape, 0)
        x = self._values(batch).clamp(-_LARGEST, _LARGEST) * real[..., None]
        return torch.cat([x, _relative(x, real), _ranks(x, real)], -1)

    def widened(self, weight: Tensor) -> Tensor:
        """Fit a layer of version 0.1.0 to today's features; what it did not read gets weight 0.

        Args:
            weight: [D, P] of today, or [D, 2 (F + has_score)] of candidates' own numbers and their
                values relative to the request.

        Returns:
            [D, P].
        """
        own = self.numbers - self.item_numbers - len(self.vectors)
        if weight.shape[1] == self.width or weight.shape[1] != 2 * own:
            return weight
        out = weight.new_zeros(len(weight), self.width)
        out[:, :own] = weight[:, :own]
        out[:, self.numbers : self.numbers + own] = weight[:, own:]
        return out

    def _values(self, batch: Batch) -> Tensor:
        parts = [batch.candidate_features]
        if self.has_score:
            parts.append(batch.candidate_score[..., None])
        if self.item_numbers:
            parts.append(batch.items.numeric[batch.candidates][..., : self.item_numbers])
        if self.vectors:
            parts.append(history_similarity(batch, self.vectors))
        return torch.cat(parts, -1)


def _relative(x: Tensor, real: Tensor) -> Tensor:
    """Values [B, N, F] less the mean of their request, over its deviation."""
    weight = real[..., None].to(x.dtype)
    count = weight.sum(1, keepdim=True).clamp_min(1)
    centred = (x - x.sum(1, keepdim=True) / count) * weight
    variance = (centred**2).sum(1, keepdim=True) / count
    return centred * (variance + SMALLEST_VARIANCE).rsqrt()


def _ranks(x: Tensor, real: Tensor) -> Tensor:
    """Rank of each value [B, N, F] within its request, in (-0.5, 0.5); 0 for padding."""
    columns = x.masked_fill(~real[..., None], torch.inf).transpose(1, 2)  # padding comes last
    ordered, order = columns.sort(-1)
    run = (ordered[..., 1:] != ordered[..., :-1]).cumsum(-1)
    run = nn.functional.pad(run, (1, 0))
    place = torch.arange(x.shape[1], device=x.device, dtype=x.dtype).expand_as(ordered)
    total = torch.zeros_like(place).scatter_add(-1, run, place)
    size = torch.zeros_like(place).scatter_add(-1, run, torch.ones_like(place))
    mean = (total / size.clamp_min(1)).gather(-1, run)
    ranks = torch.zeros_like(place).scatter(-1, order, mean).transpose(1, 2)
    count = real.sum(1)[:, None, None].clamp_min(1)
    return ((ranks + 0.5) / count - 0.5) * real[..., None]
