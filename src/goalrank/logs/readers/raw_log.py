"""What every source hands on: a normalised log, before any request exists."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from goalrank.logs.tabular.notes import ImportNotes

__all__ = ["CARRIED", "RawLog"]

CARRIED = (
    "request_label",
    "shown",
    "candidate_score",
    "propensity",
    "slot_propensity",
    "policy",
    "experiment",
)
"""Columns of exposures that travel to the requests table as they are."""


@dataclass(frozen=True)
class RawLog:
    """A log in our own column names.

    Attributes:
        dataset: its name.
        shape: ``interactions`` (what users chose) or ``exposures`` (what they were shown).
        events: user_id, item_id, time (Int64, microseconds since the epoch, UTC), one Float32
            column per feedback type; exposures may have request_id (Int64), position and the
            columns of `CARRIED`. Ties in time are broken by `order` where there is such a column,
            else by a seeded hash.
        kinds: feedback columns of ``events``.
        target: the kind whose value above 0 is a positive.
        strength: column of ``events`` kept as history_feedback (a rating, or an engagement).
        rate_kinds: kinds within [0, 1] whose average makes a point-in-time feature.
        items, users: side tables, or ``None``.
        categories: columns of ``items`` (string or list of strings) for affinity features.
        prior: user_id, item_id, time, strength: what users consumed before the log began.
        counts: what reading did (rows read, duplicates dropped, ...).
        warnings: for the report.
        features: columns of ``events`` with the caller's own numbers per candidate.
        max_gap_minutes: pause that ends a window where requests carry no id.
        notes: what reading guessed, merged and left out.
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
    features: tuple[str, ...] = ()
    max_gap_minutes: float = 1440.0
    notes: ImportNotes = field(default_factory=ImportNotes)
