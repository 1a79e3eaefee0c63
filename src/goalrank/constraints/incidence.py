"""Which caps each candidate counts for, as one table for all rules of a request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from goalrank.constraints.constraints import CompiledConstraints

Mask = NDArray[np.bool_]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Incidence:
    """Caps of one request: at most `most[r]` candidates of row r in any `window[r]` slots.

    A row is one value of one cap, or one key that no two items may share.

    Attributes:
        rows: [N, W] rows that each candidate counts for, padded with -1.
        most: [R + 1] greatest number; the last entry belongs to the padding.
        window: [R + 1] slots.
        windows: the windows that are shorter than the list.
        columns: [C, N] row of each candidate, or -1, for each cap on the whole list of which no
            candidate has two rows.
    """

    rows: NDArray[np.int64]
    most: NDArray[np.int64]
    window: NDArray[np.int64]
    windows: tuple[int, ...]
    columns: NDArray[np.int64]

    @classmethod
    def of(cls, compiled: CompiledConstraints) -> Incidence:
        """Number the rows of a request's rules.

        Args:
            compiled: the rules.
        """
        n = len(compiled.allowed)
        numbers: dict[tuple[int, Hashable], int] = {}
        rows: list[list[int]] = [[] for _ in range(n)]
        most: list[int] = []
        window: list[int] = []
        columns: list[NDArray[np.int64]] = []
        for rule, (values, limit, width) in enumerate(_caps(compiled)):
            common = Counter(value for each in values for value in each)
            column = np.full(n, -1, np.int64)
            for i, each in enumerate(values):
                for value in each:
                    if common[value] <= limit:
                        continue  # too rare to break the rule
                    row = numbers.setdefault((rule, value), len(numbers))
                    if row == len(most):
                        most.append(limit)
                        window.append(width)
                    rows[i].append(row)
                    column[i] = row
            if width >= compiled.length and all(len(list(each)) <= 1 for each in values):
                columns.append(column)
        width = max(map(len, rows), default=0)
        table = np.full((n, max(width, 1)), -1, np.int64)
        for i, own in enumerate(rows):
            table[i, : len(own)] = sorted(own)
        short = tuple(sorted({w for w in window if w < compiled.length}))
        return cls(
            table, np.array([*most, n + 1]), np.array([*window, compiled.length]), short,
            np.array(columns, np.int64).reshape(len(columns), n),
        )  # fmt: skip

    def room(self, before: Sequence[int], which: Mask) -> int:
        """Number of candidates that caps on the whole list let follow a prefix, at most.

        Args:
            before: positions at the first slots.
            which: [N] the candidates that may follow.
        """
        most = int(which.sum())
        for column in self.columns:
            used = np.bincount(column[list(before)] + 1, minlength=len(self.most) + 1)[1:]
            stock = np.bincount(column[which] + 1, minlength=len(self.most) + 1)
            held = np.minimum(stock[1:], np.maximum(self.most - used, 0)).sum()
            most = min(most, int(stock[0] + held))
        return most

    def having(self, marked: Mask) -> Mask:
        """Candidates [N] with any of the marked rows [R + 1]; the padding must not be marked.

        Args:
            marked: the rows.
        """
        found: Mask = np.asarray(marked[self.rows].any(1))
        return found

    def closed(self, items: Positions, slot: int, length: int) -> Mask | None:
        """Rows [R + 1] of which no further item may stand in a slot.

        Args:
            items: [length] positions at the slots, -1 where a slot is left out of the count.
            slot: the slot; it is left out too.
            length: T.

        Returns:
            None if the other items break a rule by themselves.
        """
        rows = np.where((items >= 0)[:, None], self.rows[items], -1)
        rows[slot] = -1
        counts = np.bincount(rows.ravel() + 1, minlength=len(self.most) + 1)[1:]
        counts[-1] = 0
        full: Mask = np.array(counts >= self.most, np.bool_)
        if not full.any():
            return full
        whole = self.window >= length
        if (counts > self.most)[whole].any():
            return None
        closed: Mask = full & whole
        for width in self.windows:
            if not self._close(
                closed, rows, np.flatnonzero(full & (self.window == width)), width, slot
            ):
                return None
        return closed

    def _close(
        self, closed: Mask, rows: NDArray[np.int64], some: Positions, width: int, slot: int
    ) -> bool:
        """Mark rows that a window with the slot is full of; False if a window holds too many."""
        if not len(some):
            return True
        there = (rows[:, :, None] == some).any(1)  # [T, r]
        sums = np.cumsum(np.vstack([np.zeros(len(some), np.int64), there]), 0)
        held = sums[width:] - sums[:-width]  # [T - width + 1, r]
        if (held > self.most[some]).any():
            return False
        around = held[max(slot - width + 1, 0) : slot + 1]
        closed[some] |= (around >= self.most[some]).any(0)
        return True


def _caps(
    compiled: CompiledConstraints,
) -> Iterable[tuple[Sequence[Iterable[Hashable]], int, int]]:
    """Values, greatest number and window of each cap; a key is a cap of one in the whole list."""
    for cap in compiled.caps:
        yield cap.values, cap.most, cap.window
    if compiled.keys is not None:
        yield [() if key is None else (key,) for key in compiled.keys], 1, compiled.length
