"""Small encoded data for tests, made directly from numpy: no table, no files."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from goalrank.requests import EncodedRequests, EntityTable


def make_entities(rows: int, buckets: int = 2, numeric: int = 0, seed: int = 0) -> EntityTable:
    """Row 0 padding, then known ids, then `buckets` shared rows; no categories."""
    rng = np.random.default_rng(seed)
    ids = torch.arange(rows)
    known = rows - buckets
    bucket = ids.clone()
    bucket[1:known] = known + ids[1:known] % buckets
    return EntityTable(
        ids,
        bucket,
        torch.from_numpy(rng.normal(size=(rows, numeric)).astype(np.float32)),
        torch.zeros((rows, 0), dtype=torch.int64),
        torch.zeros((rows, 0)),
    )


def make_columns(
    requests: int = 40,
    n: int = 8,
    *,
    shown: int = 4,
    history: int = 3,
    items: int = 30,
    users: int = 10,
    features: int = 2,
    kinds: tuple[str, ...] = ("click",),
    protocol: str = "retrieved",
    seed: int = 0,
) -> EncodedRequests:
    """Random requests: ragged candidates (1…n) and histories (0…history), random 0/1 feedback.

    Set single fields with `dataclasses.replace`.

    Args:
        requests: R.
        n: most candidates a request.
        shown, history: most shown and most history events a request.
    """
    rng = np.random.default_rng(seed)
    item_table, user_table = make_entities(items + 3, seed=seed), make_entities(users + 3)
    sizes = rng.integers(max(1, n // 2), n + 1, requests)
    past = rng.integers(0, history + 1, requests)
    seen = np.minimum(sizes, rng.integers(1, shown + 1, requests))
    time = np.sort(rng.integers(10**9, 10**12, requests))
    candidates = [rng.choice(np.arange(1, items + 1), k, replace=k > items) for k in sizes]
    values: dict[str, Any] = {
        "items": item_table,
        "users": user_table,
        "kinds": kinds,
        "target": 0,
        "protocol": protocol,
        "history_limit": max(history, 1),
        "key": rng.integers(-(2**62), 2**62, requests),
        "time": time,
        "user": rng.integers(1, users + 1, requests).astype(np.int32),
        "propensity": np.full(requests, np.nan, np.float32),
        "history_start": np.concatenate([[0], np.cumsum(past)]),
        "history": rng.integers(1, items + 1, past.sum()).astype(np.int32),
        "history_feedback": np.ones(past.sum(), np.float32),
        "history_time": np.repeat(time, past) - 1,
        "candidate_start": np.concatenate([[0], np.cumsum(sizes)]),
        "candidates": np.concatenate(candidates).astype(np.int32),
        "candidate_score": rng.normal(size=sizes.sum()).astype(np.float32),
        "candidate_features": rng.normal(size=(sizes.sum(), features)).astype(np.float32),
        "shown_start": np.concatenate([[0], np.cumsum(seen)]),
        "shown": np.concatenate([rng.permutation(s)[:k] for s, k in zip(sizes, seen)]).astype(
            np.int32
        ),
        "feedback": rng.integers(0, 2, (seen.sum(), len(kinds))).astype(np.float32),
    }
    return EncodedRequests(**values)
