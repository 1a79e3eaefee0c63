"""A raw log in the column names of goalrank, as every reader returns it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from goalrank.logs.tabular.notes import ImportNotes
from goalrank.logs.text.text_vectors import TextVectors

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
    """A log in the column names of goalrank.

    Attributes:
        dataset: name of the data set.
        shape: ``interactions`` (chosen items) or ``exposures`` (shown items).
        events: user_id, item_id, time (Int64, microseconds since 1970, UTC), one Float32 column
            per feedback type; exposures may have request_id (Int64), position and the
            columns of `CARRIED`. Ties in time are broken by ``order`` where there is such a
            column, else by a seeded hash.
        kinds: feedback columns of ``events``.
        target: the feedback type whose values above 0 are positives.
        strength: column of ``events`` for history_feedback (a rating, or an engagement).
        strength_parts: feedback types whose sum is the strength, where it is none itself; a server
            needs to know them to go on with later rows.
        rate_kinds: feedback types in [0, 1] whose mean becomes a point-in-time feature.
        items, users: side tables, or ``None``.
        categories: columns of ``items`` (string or list of strings) for affinity features.
        prior: user_id, item_id, time, strength of items consumed before the log began.
        counts: counts of reading (rows read, duplicates dropped, ...).
        facts: what a reader of results should know of such logs, as sentences for the report.
        warnings: warnings for the report.
        features: columns of ``events`` with the caller's own numbers per candidate.
        max_gap_minutes: pause that ends a window where requests have no id.
        notes: what reading guessed, merged and left out.
        positives_only: whether an exposure log was reduced to its positives.
        copies: whether rows that equal another in all columns are to be left out.
        text: how the items' texts became vectors, where they did.
    """

    dataset: str
    shape: Literal["interactions", "exposures"]
    events: pl.DataFrame
    kinds: tuple[str, ...]
    target: str
    strength: str
    rate_kinds: tuple[str, ...] = ()
    strength_parts: tuple[str, ...] = ()
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    categories: tuple[str, ...] = ()
    prior: pl.DataFrame | None = None
    counts: dict[str, int] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    max_gap_minutes: float = 1440.0
    notes: ImportNotes = field(default_factory=ImportNotes)
    positives_only: bool = False
    copies: bool = False
    text: TextVectors | None = None
