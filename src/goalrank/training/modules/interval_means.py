"""Means of what training measures between two rows of the log."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class IntervalMeans:
    """Sums of figures since the last row of the log.

    A batch holds requests with about as many candidates each, and steps may differ in kind: one
    step's figure says little, and a step may not measure a figure at all.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, figures: Mapping[str, Tensor]) -> None:
        """Add a step's figures, scalars by name."""
        for name, value in figures.items():
            count = self._counts.get(name, 0)
            new = value.detach().float()
            self._sums[name] = self._sums[name] + new if count else new
            self._counts[name] = count + 1

    def take(self) -> dict[str, Tensor]:
        """Give the means and begin anew; NaN for a figure that no step measured since then."""
        means = {
            name: total / count
            if (count := self._counts[name])
            else torch.full_like(total, torch.nan)
            for name, total in self._sums.items()
        }
        self.clear()
        return means

    def clear(self) -> None:
        """Begin anew."""
        self._counts = dict.fromkeys(self._counts, 0)
