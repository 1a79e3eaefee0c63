"""Requests as arrays, just before they become a table; and the order of their candidates."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Codes, Ints, mix64
from goalrank.logs.events.request_points import RequestPoints

__all__ = ["PendingRequests", "hide_order"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PendingRequests:
    """B requests.

    Attributes:
        points: who and when.
        candidates: [B, N] item codes, -1 pads at the end.
        position: [B, S] candidate positions in the order shown or consumed, -1 for none.
        log_row: [B, S] the log's row behind each position.
        score: [B, N] the retriever's, or ``None``.
        features: name -> [B, N].
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
        """The requests at ``index``."""
        return PendingRequests(
            self.points.take(index),
            self.candidates[index],
            self.position[index],
            self.log_row[index],
            None if self.score is None else self.score[index],
            {name: values[index] for name, values in self.features.items()},
        )


def hide_order(drafts: PendingRequests, users: Codes, items: Codes, seed: int) -> PendingRequests:
    """Store the candidates in an order that carries no information.

    Each candidate's place is decided by a hash of (seed, user, time, item), so the order of one
    request depends on nothing else in the log.
    """
    points = drafts.points
    request = mix64(users.hashes[points.user] ^ mix64(points.time.astype(np.uint64)))
    request = mix64(request + mix64(np.array([seed], dtype=np.int64).view(np.uint64)))
    real = drafts.candidates >= 0
    key = mix64(request[:, None] ^ items.hashes[np.where(real, drafts.candidates, 0)])
    key[~real] = np.iinfo(np.uint64).max
    order = np.argsort(key, axis=1, kind="stable")
    place = np.argsort(order, axis=1, kind="stable").astype(np.int32)
    shown = np.take_along_axis(place, np.maximum(drafts.position, 0).astype(np.int64), axis=1)

    def turn(values: Floats) -> Floats:
        return np.take_along_axis(values, order, axis=1)

    return replace(
        drafts,
        candidates=np.take_along_axis(drafts.candidates, order, axis=1),
        position=np.where(drafts.position >= 0, shown, -1).astype(np.int32),
        score=None if drafts.score is None else turn(drafts.score),
        features={name: turn(values) for name, values in drafts.features.items()},
    )
