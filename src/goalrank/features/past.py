"""What features may know: the rows strictly before each request, as an engine answers for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DecayedRows",
    "EarlierRows",
    "Key",
    "LatestRows",
    "Needs",
    "Past",
]

Doubles = NDArray[np.float64]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

Key: TypeAlias = Literal["all", "item", "user", "user_item"]


@dataclass(frozen=True)
class Needs:
    """What a family asks of the past.

    Attributes:
        counts: keys whose rows are counted, with sums per feedback type and the times of the first
            and the latest row: all rows, those of the candidate, of the user, or of the user with
            the candidate (counts alone).
        half_lives: hours; an item's rows are counted with weights of 2^(-age / half-life).
        latest: how many of the user's latest rows.
    """

    counts: tuple[Key, ...] = ()
    half_lives: tuple[float, ...] = ()
    latest: int = 0

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            tuple(dict.fromkeys((*self.counts, *other.counts))),
            tuple(dict.fromkeys((*self.half_lives, *other.half_lives))),
            max(self.latest, other.latest),
        )


@dataclass(frozen=True)
class EarlierRows:
    """Statistics of a key's earlier rows, per query: [Q], [B, 1] or [B, N].

    Attributes:
        count: number of earlier rows.
        sums: sums over them, one array per feedback type.
        first_time, last_time: microseconds of the key's first row and of its latest earlier row;
            0 where ``count`` is 0.
        integers: sums of further whole numbers, where an engine asked for some.
    """

    count: Longs
    sums: tuple[Doubles, ...]
    first_time: Longs
    last_time: Longs
    integers: tuple[Longs, ...] = ()

    @property
    def column(self) -> EarlierRows:
        """Statistics [B] as [B, 1]."""
        return EarlierRows(
            self.count[:, None],
            tuple(total[:, None] for total in self.sums),
            self.first_time[:, None],
            self.last_time[:, None],
        )

    @classmethod
    def counted(cls, count: Longs) -> EarlierRows:
        """Counts alone.

        Args:
            count: of any shape.
        """
        none = np.zeros_like(count)
        return cls(count, (), none, none)


@dataclass(frozen=True)
class DecayedRows:
    """Decayed statistics of each candidate's earlier rows: [B, N].

    Attributes:
        count: decayed number of rows.
        sums: decayed sums, one array per feedback type.
    """

    count: Doubles
    sums: tuple[Doubles, ...]


@dataclass(frozen=True)
class LatestRows:
    """The latest K rows of each request's user, latest first: [B, K].

    Attributes:
        real: whether there is such a row; the other arrays hold anything where not.
        item: codes.
        time: microseconds.
        values: one array per feedback type.
    """

    real: NDArray[np.bool_]
    item: Ints
    time: Longs
    values: tuple[NDArray[np.float32], ...]

    def first(self, rows: int) -> LatestRows:
        """The latest of them.

        Args:
            rows: how many at most.
        """
        return LatestRows(
            self.real[:, :rows],
            self.item[:, :rows],
            self.time[:, :rows],
            tuple(values[:, :rows] for values in self.values),
        )


class Past(Protocol):
    """The rows strictly before each of B requests with up to N candidates.

    An engine answers what a family has declared in `FeatureFamily.needs`, and nothing else.
    """

    @property
    def items(self) -> Ints:
        """[B, N] codes of the candidates, -1 for none."""

    @property
    def time(self) -> Longs:
        """[B] microseconds of the requests."""

    def counts(self, key: Key) -> EarlierRows:
        """Statistics of the rows of a key: [B, N] for item and user_item, else [B, 1].

        Args:
            key: see `Needs`.
        """

    def decayed(self, hours: float) -> DecayedRows:
        """Decayed statistics of the candidates' rows: [B, N].

        Args:
            hours: the half-life.
        """

    def latest(self, rows: int) -> LatestRows:
        """The latest rows of each request's user: [B, rows].

        Args:
            rows: how many.
        """
