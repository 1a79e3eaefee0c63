"""What every source hands on: a normalised log, before any request exists."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import polars as pl

__all__ = ["RawLog"]


@dataclass(frozen=True)
class RawLog:
    """A log in our own column names.

    Attributes:
        dataset: its name.
        shape: ``interactions`` (what users chose) or ``exposures`` (what they were shown).
        events: user_id, item_id, time (Int64, microseconds since the epoch, UTC), one Float32
            column a kind; exposures may have request_id and position. Row order breaks ties.
        kinds: feedback columns of ``events``.
        target: the kind whose value above 0 is a positive.
        strength: column of ``events`` kept as history_feedback (a rating, or an engagement).
        rate_kinds: kinds within [0, 1] whose average makes a point-in-time feature.
        items, users: side tables, or ``None``.
        categories: columns of ``items`` (string or list of strings) for affinity features.
        prior: user_id, item_id, time, strength: what users consumed before the log began.
        counts: what reading did (rows read, duplicates dropped, ...).
        warnings: for the report.
    """

    dataset: str
    shape: Literal["interactions", "exposures"]
    events: pl.DataFrame
    kinds: tuple[str, ...]
    target: str
    strength: str
    rate_kinds: tuple[str, ...] = ()
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    categories: tuple[str, ...] = ()
    prior: pl.DataFrame | None = None
    counts: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
