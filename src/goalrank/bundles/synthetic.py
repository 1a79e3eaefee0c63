"""Requests made up of a bundle's own ids: to warm a server up, and to export and check graphs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from goalrank.requests import Encoder

_TIME = datetime(2024, 1, 1, tzinfo=UTC)


def synthetic_requests(encoder: Encoder, rows: int, most: int) -> list[dict[str, Any]]:
    """Rows of 1 … `most` known candidates (the first has all of them) and as many events.

    They are the same in every process.
    """
    rng = np.random.default_rng(0)
    ids = encoder.items.vocabulary.ids.head(4096).to_list() or _unknown(encoder.items.vocabulary)
    users = encoder.users.vocabulary.ids.head(1).to_list() or _unknown(encoder.users.vocabulary)
    most, out = min(most, len(ids)), []
    for row in range(rows):
        n = most if row == 0 else int(rng.integers(1, most + 1))
        pick = [ids[i] for i in rng.choice(len(ids), n, replace=False)]
        out.append(
            {
                "request_id": str(row), "user_id": users[0], "time": _TIME, "history": pick,
                "history_feedback": [1.0] * n, "history_time": [_TIME] * n, "candidates": pick,
                "candidate_score": rng.normal(size=n).tolist(),
                "candidate_features": rng.normal(size=(n, len(encoder.candidate))).tolist(),
            }
        )  # fmt: skip
    return out


def _unknown(vocabulary: Any) -> list[Any]:
    return ["?"] if str(vocabulary.ids.dtype) == "String" else [0]
