"""Small worlds in which one ranker's idea pays, and plain loops to fit rankers in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goalrank.encoders import EncoderSizes
from goalrank.rankers import Ranker
from goalrank.requests import EncodedRequests, EntityTable
from tests.helpers import make_columns, make_entities

R = TypeVar("R", bound=Ranker)
SIZES = EncoderSizes(width=24, layers=1, heads=2, dropout=0.0, id_dropout=0.0)


def one_hot(types: NDArray[np.int64], kinds: int) -> NDArray[np.float32]:
    """Item numbers [items + 3, kinds] of items 1…, from their types; padding and buckets hold 0."""
    body = np.eye(kinds, dtype=np.float32)[types]
    zero = np.zeros((1, kinds), np.float32)
    return np.concatenate([zero, body, zero, zero])


def columns_of(
    candidates: NDArray[Any],
    relevance: NDArray[Any],
    numeric: NDArray[np.float32],
    *,
    shown: NDArray[Any] | None = None,
    score: NDArray[Any] | None = None,
    features: NDArray[Any] | None = None,
    history: NDArray[Any] | None = None,
    hours: NDArray[Any] | None = None,
    user: NDArray[Any] | None = None,
    users: EntityTable | None = None,
    time: NDArray[Any] | None = None,
) -> EncodedRequests:
    """Requests of equal lengths.

    Args:
        candidates: [R, N] item rows.
        relevance: [R, N] of every candidate, or of the shown ones if lists were shown.
        numeric: [items + 3, Fn] numbers of the items, two buckets last.
        shown: [R, S] places of the shown candidates; None = every candidate is labelled.
        hours: [R, H] age of the history events; 1 by default.
    """
    r, n = candidates.shape
    items = replace(make_entities(len(numeric)), numeric=torch.from_numpy(numeric))
    history = np.zeros((r, 0), np.int64) if history is None else history
    time = np.full(r, 10**14) if time is None else time
    hours = np.ones(history.shape) if hours is None else hours
    if shown is None:
        at = np.nonzero(relevance)
        start, flat, gain = np.bincount(at[0], minlength=r), at[1], relevance[at]
    else:
        start, flat = np.full(r, shown.shape[1]), shown.reshape(-1)
        gain = np.take_along_axis(relevance, shown, 1).reshape(-1)
    base = make_columns(r, n)
    return replace(
        base,
        items=items,
        users=make_entities(13) if users is None else users,
        protocol="retrieved" if shown is None else "exposed",
        history_limit=max(history.shape[1], 1),
        time=time,
        user=np.ones(r, np.int32) if user is None else user.astype(np.int32),
        history_start=np.arange(r + 1) * history.shape[1],
        history=history.reshape(-1).astype(np.int32),
        history_feedback=np.ones(history.size, np.float32),
        history_time=(time[:, None] - hours * 3.6e9).astype(np.int64).reshape(-1),
        candidate_start=np.arange(r + 1) * n,
        candidates=candidates.reshape(-1).astype(np.int32),
        candidate_score=_flat(score, r * n),
        candidate_features=np.zeros((r * n, 0), np.float32)
        if features is None
        else features.reshape(r * n, -1).astype(np.float32),
        shown_start=np.concatenate([[0], np.cumsum(start)]),
        shown=flat.astype(np.int32),
        feedback=gain.reshape(-1, 1).astype(np.float32),
    )


def _flat(values: NDArray[Any] | None, size: int) -> NDArray[np.float32]:
    return np.zeros(size, np.float32) if values is None else values.reshape(-1).astype(np.float32)


def fit(ranker: R, columns: EncodedRequests, slots: int, steps: int = 110, lr: float = 6e-3) -> R:
    """AdamW on the ranker's own loss."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(ranker.parameters(), lr=lr, weight_decay=0.0)
    ranker.train()
    rng = np.random.default_rng(0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, 2 * (1 - step / steps))
        batch = columns.batch(rng.choice(len(columns), 64, replace=False))
        optimizer.zero_grad()
        ranker.loss(batch, slots).backward()
        torch.nn.utils.clip_grad_norm_(ranker.parameters(), 5.0)
        optimizer.step()
    return ranker.eval()


def precision(ranker: Ranker, columns: EncodedRequests, slots: int) -> float:
    """Mean relevance of the slots of the ranker's best lists."""
    batch = columns.batch(slice(None))
    with torch.no_grad():
        lists = ranker.rank(batch, slots)
    return float(batch.relevance.gather(1, lists).mean())


def types_at(columns: EncodedRequests, types: Tensor, lists: Tensor) -> Tensor:
    """[B, L] types of the items of lists [B, L]; `types` [rows] by item row."""
    return types[columns.batch(slice(None)).candidates].gather(1, lists)
