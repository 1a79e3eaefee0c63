"""The columns of the requests table, declared once: name, type, what it lines up with, meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

TIME = pl.Datetime("us", "UTC")
Base = Literal["history", "candidates", "shown"]


@dataclass(frozen=True)
class Column:
    """A column of the requests table.

    Attributes:
        name: of the column.
        expected: its type in words, for error messages and documentation.
        entry: polars type of a cell, or of an entry where the cell holds a list; None for ids and
            for what depends on the table (the struct `feedback`, F-wide vectors).
        meaning: what it says.
        is_list: whether a cell holds a list.
        is_required: whether a table without it is refused.
        is_filled: whether absent columns and null cells become empty lists.
        along: the list column that its lists line up with, entry by entry.
        entries_known: whether null entries are refused.
    """

    name: str
    expected: str
    entry: pl.DataType | None
    meaning: str
    is_list: bool = False
    is_required: bool = False
    is_filled: bool = False
    along: Base | None = None
    entries_known: bool = False

    def dtype(self, ids: pl.DataType | None = None) -> pl.DataType:
        """The polars type of the column.

        Args:
            ids: type of its ids, Int64 or String, where it holds ids.

        Raises:
            ValueError: the type depends on the table (vectors, feedback), or ids are needed.
        """
        entry = self.entry if self.entry is not None else ids
        if entry is None:
            raise ValueError(f"the type of column '{self.name}' depends on the table")
        return pl.List(entry) if self.is_list else entry


SCHEMA: tuple[Column, ...] = (
    Column(
        "request_id", "a unique string", pl.String(), "Names the request; feedback refers to it.",
        is_required=True,
    ),
    Column(
        "user_id", "an id: integer or string", None,
        "Who asked; a user that the model does not know is welcome.", is_required=True,
    ),
    Column(
        "time", "a time with a zone (Datetime[us, UTC])", TIME, "When the list was asked for.",
        is_required=True,
    ),
    Column(
        "history", "a list of item ids", None, "What the user had before `time`, oldest first.",
        is_list=True, is_filled=True, entries_known=True,
    ),
    Column(
        "history_feedback", "a list of float32", pl.Float32(),
        "How strongly each of them was liked; empty in every row where not known. Rankers that were "
        "trained with it ask for it.",
        is_list=True, is_filled=True, along="history",
    ),
    Column(
        "history_time", "a list of times with a zone (Datetime[us, UTC])", TIME,
        "When each happened, strictly before `time`; empty in every row where not known. Rankers "
        "that were trained with it ask for it.",
        is_list=True, is_filled=True, along="history", entries_known=True,
    ),
    Column(
        "candidates", "a list of item ids", None, "The N distinct items to choose from, any N ≥ 1.",
        is_list=True, is_required=True, entries_known=True,
    ),
    Column(
        "candidate_score", "a list of float32", pl.Float32(), "The retriever's score of each; null where not known. As above.",
        is_list=True, along="candidates",
    ),
    Column(
        "candidate_features", "a list of arrays of float32, one array per candidate", None,
        "F numbers of each; their names are in `TableInfo.candidate_features`. Null where not known: "
        "all of a request's, or one feature in all its arrays. As above.",
        is_list=True, along="candidates",
    ),
    Column(
        "shown", "a list of positions in `candidates` (int32)", pl.Int32(),
        "What was shown, in that order; empty if nothing was.",
        is_list=True, is_filled=True, entries_known=True,
    ),
    Column(
        "feedback", "a struct with one list of float32 per kind of feedback", None,
        "The user's answer of each kind (click, rating, …) to each shown item; a kind is null where "
        "it was not collected, which training reads as 0.",
        is_filled=True, along="shown",
    ),
    Column(
        "propensity", "a number (float64)", pl.Float64(),
        "Probability with which the whole list was shown, in (0, 1]; null if unknown.",
    ),
    Column(
        "slot_propensity", "a list of float64, one per shown item", pl.Float64(),
        "Probability of each shown item given those before it; multiplies to `propensity`.",
        is_list=True, along="shown",
    ),
    Column("policy", "a string", pl.String(), "Which ranker made the list."),
    Column("experiment", "a string", pl.String(), "experiment:variant under which it was shown."),
)  # fmt: skip
BY_NAME = {column.name: column for column in SCHEMA}
EXPECTED = {column.name: column.expected for column in SCHEMA}
"""What error messages say of each column's type."""


def aligned_with(base: Base) -> tuple[str, ...]:
    """Names of the columns whose lists line up with those of `base`."""
    return tuple(column.name for column in SCHEMA if column.along == base)
