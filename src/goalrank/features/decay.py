"""Sums that decay exponentially with age, in constant memory per key.

Time is cut into epochs of eight half-lives, on a grid that no log moves. Within an epoch, weights
refer to the epoch's end and are added in fixed point; sums of older epochs are a number that shrinks
by a power of two from epoch to epoch. Sums are therefore the same, however rows are grouped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["DecayedTotals", "HalfLife"]

_LIVES = 8  # half-lives of an epoch; a weight is at least 2^-8 of the largest
_GRID = 1 << 32  # fixed point of weights
_NEVER = np.iinfo(np.int64).min // 2

Doubles = NDArray[np.float64]
Longs = NDArray[np.int64]


@dataclass(frozen=True)
class HalfLife:
    """A half-life and its epochs.

    Attributes:
        hours: above 0.
    """

    hours: float

    @cached_property
    def life(self) -> int:
        """The half-life in microseconds."""
        return max(round(self.hours * 3600e6), 1)

    def epoch(self, time: Longs) -> Longs:
        """Number of the epoch of times.

        Args:
            time: microseconds, of any shape.
        """
        number: Longs = time // (self.life * _LIVES)
        return number

    def before_end(self, time: Longs) -> Doubles:
        """Half-lives from times to the end of their epochs, in (0, 8]."""
        span = self.life * _LIVES
        return (span - time % span) / self.life

    def weights(self, time: Longs, values: NDArray[np.floating] | None = None) -> Longs:
        """Weights of rows at the end of their epochs, in fixed point.

        Args:
            time: [n] microseconds.
            values: [n] factors; None is 1.
        """
        weight: Doubles = np.exp2(-self.before_end(time)) * _GRID
        rounded: Doubles = np.rint(weight if values is None else weight * values)
        return rounded.astype(np.int64)

    def at(self, sums: Longs, time: Longs) -> Doubles:
        """Sums of `weights` at moments of the same epoch.

        Args:
            sums: of any shape.
            time: microseconds, of a shape that fits.
        """
        return (sums / _GRID) * np.exp2(self.before_end(time))


class DecayedTotals:
    """Decayed sums of several columns per key.

    Args:
        half_life: of all columns.
        keys: number of keys; see `grow`.
        columns: number of columns.
    """

    def __init__(self, half_life: HalfLife, keys: int, columns: int) -> None:
        self.half_life = half_life
        self.epoch: Longs = np.full(keys, _NEVER)
        self.older: Doubles = np.zeros((columns, keys))  # at the begin of the key's epoch
        self.current: Longs = np.zeros((columns, keys), np.int64)

    def grow(self, keys: int) -> None:
        """Make room for more keys.

        Args:
            keys: number of keys from now on.
        """
        more = keys - len(self.epoch)
        if more > 0:
            self.epoch = np.pad(self.epoch, (0, more), constant_values=_NEVER)
            self.older = np.pad(self.older, ((0, 0), (0, more)))
            self.current = np.pad(self.current, ((0, 0), (0, more)))

    def add(
        self, key: NDArray[np.integer], time: Longs, columns: Sequence[NDArray[np.floating] | None]
    ) -> None:
        """Add rows, in any order.

        Args:
            key: [n].
            time: [n] microseconds.
            columns: values [n] of each column; None counts rows.
        """
        epoch = self.half_life.epoch(time)
        newest = np.full(int(key.max(initial=-1)) + 1, _NEVER)
        np.maximum.at(newest, key, epoch)
        moved = np.flatnonzero(newest > self.epoch[: len(newest)])
        self._move(moved, newest[moved])
        late = epoch < self.epoch[key]
        for number, values in enumerate(columns):
            weights = self.half_life.weights(time, values)
            np.add.at(self.current[number], key[~late], weights[~late])
            if late.any():
                self._add_late(number, key[late], epoch[late], weights[late])

    def _move(self, key: Longs, epoch: Longs) -> None:
        """Begin a later epoch for keys."""
        passed = np.minimum(epoch - self.epoch[key], 1 << 20)
        older = self.older[:, key] / (1 << _LIVES) + self.current[:, key] / _GRID
        self.older[:, key] = np.ldexp(older, (-_LIVES * (passed - 1)).astype(np.int32))
        self.current[:, key] = 0
        self.epoch[key] = epoch

    def _add_late(self, number: int, key: Longs, epoch: Longs, weights: Longs) -> None:
        """Rows of epochs before their keys' epochs."""
        passed = np.minimum(self.epoch[key] - epoch - 1, 1 << 20)
        decayed = np.ldexp(weights / _GRID, (-_LIVES * passed).astype(np.int32))
        np.add.at(self.older[number], key, decayed)

    def at(self, key: NDArray[np.integer], time: Longs) -> Doubles:
        """Sums at moments after all rows of the keys: [columns, *shape of key].

        Args:
            key: of any shape; -1 gives 0.
            time: microseconds, of a shape that fits.
        """
        if not len(self.epoch):
            return np.zeros((len(self.older), *key.shape))
        safe = np.where(key >= 0, key, 0)
        none = (key < 0) | (self.epoch[safe] == _NEVER)
        own = np.where(none, 0, self.epoch[safe])
        begin = own * (self.half_life.life * _LIVES)
        age = np.where(none, 0, time - begin) / self.half_life.life
        shrunk = np.exp2(-age)
        older, current = self.older[:, safe] * shrunk, self.current[:, safe] / _GRID
        total: Doubles = older + current * (shrunk * (1 << _LIVES))
        return np.where(none, 0.0, total)
