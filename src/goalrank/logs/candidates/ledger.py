"""A few numbers per request, kept while the requests themselves go to disk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.candidates.pending import PendingRequests
from goalrank.logs.events.arrays import Events
from goalrank.logs.events.request_points import RequestPoints
from goalrank.logs.retrieval.refit_scoring import ChunkResult

__all__ = ["RequestLedger"]

Counts = NDArray[np.int32]


class RequestLedger:
    """Counts of each request, in the order in which requests are made.

    Args:
        points: B requests.
        answers: rows that the requests' ``log_row`` refers to.
        target: column of their values that is relevance.
        least: positives that a request needs.

    Attributes:
        points: as given.
        candidates: [B] number of candidates.
        positives: [B] positives among the candidates.
        kept: [B] whether a request has at least two candidates and enough positives.
        retrieval: ``positives`` and ``hits NAME`` of retrieval → [B].
    """

    def __init__(self, points: RequestPoints, answers: Events, target: str, least: int) -> None:
        self.points = points
        self._target, self._least = answers.values[target], least
        self.candidates = np.zeros(len(points), np.int32)
        self.positives = np.zeros(len(points), np.int32)
        self.kept = np.zeros(len(points), bool)
        self.retrieval: dict[str, Counts] = {}
        self._next = 0

    def add(self, pending: PendingRequests, counts: ChunkResult) -> NDArray[np.bool_]:
        """Take in the next requests.

        Args:
            pending: P requests.
            counts: what retrieval counted about them, by name.

        Returns:
            [P] which are kept.
        """
        rows = slice(self._next, self._next + len(pending))
        self._next = rows.stop
        positive = (self._target[pending.log_row] > 0) & (pending.position >= 0)
        self.candidates[rows] = (pending.candidates >= 0).sum(axis=1)
        self.positives[rows] = positive.sum(axis=1)
        kept = (self.positives[rows] >= self._least) & (self.candidates[rows] >= 2)
        self.kept[rows] = kept
        for name, values in counts.items():
            all_values = self.retrieval.setdefault(name, np.zeros(len(self.points), np.int32))
            all_values[rows] = values
        return kept

    @property
    def single(self) -> int:
        """Requests with a single candidate, or none."""
        return int((self.candidates < 2).sum())
