"""Requests as arrays, before they become a table, and the shuffle of their candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Codes, Ints
from goalrank.logs.events.request_points import RequestPoints
from goalrank.requests import mix64

__all__ = ["PendingRequests", "shuffle_candidates"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PendingRequests:
    """B requests.

    Attributes:
        points: user and time of each request.
        candidates: [B, N] item codes, -1 pads at the end.
        position: [B, S] positions among the candidates in the order shown or consumed, -1 for none.
        log_row: [B, S] row of the log for each position.
        score: [B, N] scores of the retriever, or ``None``.
        features: name → [B, N].
    """

    points: RequestPoints
    candidates: Ints
    position: Ints
    log_row: NDArray[np.int64]
    score: Floats | None = None
    features: dict[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.candidates)

    def take(self, index: NDArray[np.int64]) -> PendingRequests:
        """Select requests.

        Args:
            index: [B'] indices.
        """
        return PendingRequests(
            self.points.take(index),
            self.candidates[index],
            self.position[index],
            self.log_row[index],
            None if self.score is None else self.score[index],
            {name: values[index] for name, values in self.features.items()},
        )

    @classmethod
    def joined(cls, parts: Sequence[PendingRequests]) -> PendingRequests:
        """Requests of several parts, which agree in N and S, one after another.

        Args:
            parts: at least one.
        """
        scores = [part.score for part in parts if part.score is not None]
        return cls(
            RequestPoints.joined([part.points for part in parts]),
            np.concatenate([part.candidates for part in parts]),
            np.concatenate([part.position for part in parts]),
            np.concatenate([part.log_row for part in parts]),
            np.concatenate(scores) if scores else None,
            {n: np.concatenate([part.features[n] for part in parts]) for n in parts[0].features},
        )


def shuffle_candidates(
    pending: PendingRequests, users: Codes, items: Codes, seed: int
) -> PendingRequests:
    """Shuffle the candidates, so that their order carries no information.

    The order is by a hash of (seed, user, time, item), so that it does not depend on anything else
    in the log.

    Args:
        pending: B requests.
        users: codes of users.
        items: codes of items.
        seed: seed of the hash.
    """
    points = pending.points
    request = mix64(users.hashes[points.user] ^ mix64(points.time.astype(np.uint64)))
    request = mix64(request + mix64(np.array([seed], dtype=np.int64).view(np.uint64)))
    real = pending.candidates >= 0
    key = mix64(request[:, None] ^ items.hashes[np.where(real, pending.candidates, 0)])
    key[~real] = np.iinfo(np.uint64).max
    order = np.argsort(key, axis=1, kind="stable")
    new_position = np.argsort(order, axis=1, kind="stable").astype(np.int32)
    shown = np.take_along_axis(
        new_position, np.maximum(pending.position, 0).astype(np.int64), axis=1
    )

    def reorder(values: Floats) -> Floats:
        return np.take_along_axis(values, order, axis=1)

    return replace(
        pending,
        candidates=np.take_along_axis(pending.candidates, order, axis=1),
        position=np.where(pending.position >= 0, shown, -1).astype(np.int32),
        score=None if pending.score is None else reorder(pending.score),
        features={name: reorder(values) for name, values in pending.features.items()},
    )
