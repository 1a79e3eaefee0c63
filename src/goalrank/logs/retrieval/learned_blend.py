"""Shares of retrieval channels, learnt from requests whose answers are already known.

Before each refit the shares that brought the most positives so far are taken; so a request's
candidates depend on earlier requests only, and a channel that does not help on a data set gets no
place. Each channel alone is among the choices.
"""

from __future__ import annotations

import math
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
_UNIT = float(1 << 34)  # recall is counted in units of its inverse

_Judged = tuple[Longs, NDArray[np.float32], NDArray[np.int64]]  # end, recall, positives


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


class _Sums:
    """Exact sums over judged requests: recall of each choice, and its gain over the first.

    Recall counts in units of 2^-34, of which every float32 share of at most 1,000 positives is a
    whole number; so no sum depends on the order in which requests come.

    Args:
        choices: number of choices.
    """

    def __init__(self, choices: int) -> None:
        self.requests = 0
        self.positives = 0
        self._recall = np.zeros(choices, object)
        self._squares = np.zeros(choices, object)

    def add(self, recall: NDArray[np.float32], positives: NDArray[np.int64]) -> None:
        """Take in requests: recall [P, choices], positives [P]."""
        whole = np.rint(recall.astype(np.float64) * _UNIT).astype(np.int64).astype(object)
        self.requests += len(recall)
        self.positives += int(positives.sum())
        self._recall = self._recall + whole.sum(axis=0)
        self._squares = self._squares + ((whole - whole[:, :1]) ** 2).sum(axis=0)

    def best(self) -> int:
        """The choice to take: the best on average, unless the first is as good within errors."""
        best = int(self._recall.astype(np.float64).argmax())
        gain = self._recall[best] - self._recall[0]
        spread = self.requests * self._squares[best] - gain * gain  # variance times requests²
        error = math.sqrt(spread / self.requests)
        return best if gain > _ERRORS * error else 0


class BlendLearner:
    """Keeps what each choice of shares would have brought, and names the best so far.

    Memory holds running sums, and the requests whose answers are not complete yet.

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
        self._sums = _Sums(len(self.choices))
        self._waiting: list[_Judged] = []
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
        if good.any():
            recall = (hits[good] / positives[good, None]).astype(np.float32)
            self._waiting.append((self._end[part[good]], recall, positives[good]))

    def advance(self, moment: int) -> None:
        """Choose the shares for requests from `moment` on, by answers complete before it."""
        waiting, self._waiting = self._waiting, []
        for end, recall, positives in waiting:
            known = end < moment
            self._sums.add(recall[known], positives[known])
            if not known.all():
                self._waiting.append((end[~known], recall[~known], positives[~known]))
        enough = self._sums.positives >= _LEAST
        self.taken.append((moment, self.choices[self._sums.best()] if enough else self.shares))
