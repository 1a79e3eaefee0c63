"""Shares of retrieval channels, learnt from requests whose answers are already known.

Before each refit the shares that brought the most positives so far are taken; so a request's
candidates depend on earlier requests only, and a channel that does not help on a data set gets no
place. Each channel alone is among the choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from goalrank.logs.events.arrays import Longs

__all__ = ["BlendLearner", "share_choices"]

_STEPS = 4  # shares are multiples of a quarter
_LEAST = 200  # positives needed before the shares are changed
_SAMPLE = 8  # one request in so many is used to judge all choices
_ERRORS = 1.0  # standard errors by which another choice must be better than the first


def share_choices(first: Sequence[float]) -> list[tuple[float, ...]]:
    """`first`, then all shares in quarters that sum to 1, each channel alone among them."""
    grid = [
        tuple(part / _STEPS for part in parts)
        for parts in product(range(_STEPS + 1), repeat=len(first))
        if sum(parts) == _STEPS
    ]
    total = sum(first)
    start = tuple(share / total for share in first)
    return [start, *(shares for shares in grid if shares != start)]


class BlendLearner:
    """Keeps what each choice of shares would have brought, and names the best so far.

    Args:
        first: [C] shares to begin with.
        hashes: [B] a number per request that decides whether it is judged.
        end: [B] microseconds when a request's answers are complete.
        fixed: whether the shares stay as they are.
    """

    def __init__(
        self,
        first: Sequence[float],
        hashes: NDArray[np.uint64],
        end: Longs,
        *,
        fixed: bool,
    ) -> None:
        self.choices = share_choices(first)
        self.judged = np.zeros(len(end), bool) if fixed else hashes % np.uint64(_SAMPLE) == 0
        self._end = end
        self._recall = np.full((len(end), len(self.choices)), np.nan, np.float32)
        self._positives = np.zeros(len(end), np.int64)
        self.taken: list[tuple[int, tuple[float, ...]]] = []

    @property
    def shares(self) -> tuple[float, ...]:
        """[C] the shares in use."""
        return self.taken[-1][1] if self.taken else self.choices[0]

    def keep(self, part: Longs, hits: NDArray[np.int64], positives: NDArray[np.int64]) -> None:
        """Take in the hits of each choice.

        Args:
            part: [P] requests.
            hits: [P, choices] positives among the candidates; -1 where not judged.
            positives: [P].
        """
        good = (positives > 0) & (hits[:, 0] >= 0)
        rows = part[good]
        self._recall[rows] = hits[good] / positives[good, None]
        self._positives[rows] = positives[good]

    def advance(self, moment: int) -> None:
        """Choose the shares for requests from `moment` on, by answers complete before it."""
        known = (self._end < moment) & ~np.isnan(self._recall[:, 0])
        if int(self._positives[known].sum()) < _LEAST:
            self.taken.append((moment, self.shares))
            return
        recall = self._recall[known].astype(np.float64)
        best = int(recall.mean(axis=0).argmax())
        gain = recall[:, best] - recall[:, 0]
        error = gain.std() / np.sqrt(len(gain))
        choice = best if gain.mean() > _ERRORS * error else 0
        self.taken.append((moment, self.choices[choice]))
