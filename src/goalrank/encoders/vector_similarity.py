"""Similarity of candidates to a user's history, by the vectors of items."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from goalrank.requests import Batch

# Per unit of similarity; rounding errors are a thousandth of a step. A power of two, so that no
# simple fraction, which similarities of vectors of signs are, lies between two steps.
_STEPS = 2.0**13


def history_similarity(batch: Batch, lengths: Sequence[int]) -> Tensor:
    """Compute the cosine of each candidate's vectors and the user's: [B, N, V] in [-1, 1].

    The user's vector is the sum of the unit vectors of the history's items, weighted by feedback
    (relevance feedback: Rocchio, 1971): what was shown and not answered says nothing of a taste,
    five stars say more of it than one, and negative feedback pushes away. A vector that is
    missing, an empty history and padding give 0. Similarities are multiples of 2⁻¹³: candidates
    that are equally near, as all of a history of two are, tie whatever the rounding of a machine
    or of a batch size, and so have one rank.

    Args:
        batch: B requests.
        lengths: of the V vectors that the numbers of items end with.
    """
    first = batch.items.numeric.shape[1] - sum(lengths)
    table = batch.items.numeric[:, first:]
    weight = (batch.history_feedback * batch.history_mask).unsqueeze(-1)
    candidates, events = (
        torch.split(table[rows], list(lengths), -1) for rows in (batch.candidates, batch.history)
    )
    cosines = [
        _units(own) @ _units((weight * _units(past)).sum(1)).unsqueeze(-1)
        for own, past in zip(candidates, events)
    ]
    rounded = torch.round(torch.cat(cosines, -1) * _STEPS) / _STEPS
    return rounded.clamp(-1, 1) * batch.candidate_mask.unsqueeze(-1)


def _units(vectors: Tensor) -> Tensor:
    """Vectors [..., D] of length 1; those of length 0 stay as they are."""
    return F.normalize(vectors, dim=-1)
