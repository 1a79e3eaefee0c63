"""What a predictor is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from goalrank.requests import Batch, RequestArrays, Told, listed

LatestRows = Callable[[Literal["items", "users"], Sequence[Any]], Told]
"""("items" or "users", ids) → what is known of them now; ids without any are left out."""


@dataclass(frozen=True)
class Ranked:
    """One request's list.

    Attributes:
        items: ids, best first.
        positions: the same in the request's candidates.
        log_prob: of the list under the constrained policy at the temperature (1 where greedy).
        propensity: probability with which this very list was served: exp(log_prob) where it was
            drawn, 1 where greedy, None where degraded.
        slot_propensity: probability of each item given those before it, of which `propensity` is the
            product; None where degraded, or where the ranker has none.
        relaxed: rules given up because no list obeys them all.
        degraded: the retriever's order, not the ranker's.
        filled: inputs that the request lacks, of which the model got the training mean.
    """

    request_id: str
    user_id: Any
    items: list[Any]
    positions: list[int]
    log_prob: float
    propensity: float | None
    relaxed: tuple[str, ...] = ()
    degraded: bool = False
    filled: tuple[str, ...] = ()
    slot_propensity: list[float] | None = None


@dataclass(frozen=True)
class Asked:
    """B requests, the ids of each one's candidates, and the side tables sent with them.

    Attributes:
        told_items, told_users: what the latest rows say of ids that occur, where no side table
            was sent.
    """

    flat: RequestArrays
    candidates: list[list[Any]]
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    told_items: Told = field(default_factory=dict)
    told_users: Told = field(default_factory=dict)

    def told_by(self, latest: LatestRows) -> Asked:
        """These requests with what is known of their ids now.

        Args:
            latest: asked for items and users, where no side table of these was sent.
        """
        items = {} if self.items is not None else latest("items", listed(self.flat.item_ids))
        users = {} if self.users is not None else latest("users", listed(self.flat.user_id))
        return replace(self, told_items=items, told_users=users)


def parted(flat: RequestArrays) -> list[list[Any]]:
    """Ids of each request's candidates."""
    ids, ends = list(flat.candidates), np.cumsum(flat.candidate_length).tolist()
    return [ids[start:end] for start, end in zip([0, *ends], ends)]


def retriever_scores(asked: Asked) -> tuple[Tensor, Batch]:
    """Scores [B, N] and just enough of a batch: the mask and names of the candidates."""
    sizes, given = asked.flat.candidate_length, asked.flat.candidate_score
    real = torch.from_numpy(np.arange(int(sizes.max())) < sizes[:, None])
    n = real.shape[1]
    scores = -torch.arange(n, dtype=torch.float64).repeat(len(sizes), 1)
    if given is not None and len(given) == int(sizes.sum()):
        scores[real] = torch.from_numpy(given).double()
    names = torch.arange(n).expand(len(sizes), n)
    none = torch.zeros(len(sizes), 0)
    batch = Batch(
        index=none, key=none, items=None, users=None, user=none,  # type: ignore[arg-type]
        history=none, history_mask=none, history_feedback=none, history_age=none,
        candidates=names, candidate_mask=real, candidate_score=scores, candidate_features=none,
        shown=none, feedback=none, relevance=none, observed=none, propensity=none,
    )  # fmt: skip
    return scores, batch
