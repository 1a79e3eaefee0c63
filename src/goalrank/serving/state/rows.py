"""Rows of an event log as records: what the fold of one needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from goalrank.errors import SchemaError
from goalrank.logs import row_ties
from goalrank.requests import LogRule
from goalrank.serving.state.ids import IdCodes

__all__ = ["BEFORE", "Records", "RowReader"]

Records = NDArray[Any]
"""user, item, time, tie, counted, consumed, liked, before, strength, values: a structured array."""

BEFORE = "before"
"""Column of events: items that were consumed before the log began, which enter histories alone."""

_ALWAYS = ("interaction", "consumed")  # feedback types that are 1 for every row
_NEEDED = ("user_id", "item_id", "time")


@dataclass(frozen=True)
class RowReader:
    """Reads frames of events by the rule of the log that a model was trained on.

    Attributes:
        rule: of that log.
        kinds: feedback types that features average.
        target: feedback type that is relevance.
        users, items: codes; new ids get some.
    """

    rule: LogRule
    kinds: tuple[str, ...]
    target: str
    users: IdCodes
    items: IdCodes

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a record."""
        return np.dtype(
            [("user", np.int32), ("item", np.int32), ("time", np.int64), ("tie", np.uint64),
             ("counted", np.bool_), ("consumed", np.bool_), ("liked", np.bool_), ("before", np.bool_),
             ("strength", np.float32), ("values", np.float32, (len(self.kinds),))]
        )  # fmt: skip

    def records(self, events: pl.DataFrame) -> Records:
        """Records of events, in their order; those that count as nothing are left out.

        Args:
            events: user_id, item_id, time (Int64, microseconds), a column per feedback type (a
                missing one is 0), and perhaps shown, as `goalrank.logs.RawLog` has them.

        Raises:
            SchemaError: a column is missing.
        """
        missing = [name for name in _NEEDED if name not in events.columns]
        if missing:
            raise SchemaError(
                f"events lack {', '.join(missing)}; present: {', '.join(events.columns)}; remedy: "
                f"name who, what and when of each event"
            )
        target = self._values(events, self.target)
        if self.rule.positives_only:
            events, target = events.filter(pl.Series(target > 0)), target[target > 0]
        out = np.zeros(events.height, self.dtype)
        out["user"] = self.users.add(events["user_id"].to_list())
        out["item"] = self.items.add(events["item_id"].to_list())
        out["time"], out["liked"] = events["time"].to_numpy(), target > 0
        if not self.rule.ordered:
            users, items = self.users.hashes[out["user"]], self.items.hashes[out["item"]]
            out["tie"] = row_ties(users, items, self.rule.seed)
        for number, kind in enumerate(self.kinds):
            out["values"][:, number] = self._values(events, kind)
        for kind in self.rule.strength:
            out["strength"] += self._values(events, kind)
        out["counted"] = True
        if "shown" in events.columns:
            out["counted"] = events["shown"].fill_null(False).to_numpy()
        chosen = self.rule.shape == "interactions"
        out["consumed"] = chosen | (out["counted"] & (out["strength"] > 0))
        return out

    def _values(self, events: pl.DataFrame, kind: str) -> NDArray[np.float32]:
        """Values of a feedback type, [n]; each row's depend on this row alone."""
        unnamed = self._unnamed(events, kind)
        if kind in events.columns:
            return events[kind].cast(pl.Float32).fill_null(unnamed).to_numpy()
        return unnamed.to_numpy()

    def _unnamed(self, events: pl.DataFrame, kind: str) -> pl.Series:
        """Values of a feedback type in rows that do not name it, [n]."""
        least = self.rule.like_threshold
        if kind == "like" and least is not None and "rating" in events.columns:
            return (events["rating"] >= least).cast(pl.Float32).fill_null(0.0)
        return pl.Series(np.full(events.height, float(kind in _ALWAYS), np.float32))

    def before_the_log(self, consumed: pl.DataFrame) -> Records:
        """Records of items that were consumed before the log began; they enter histories alone.

        Args:
            consumed: user_id, item_id, time, strength.
        """
        out = np.zeros(consumed.height, self.dtype)
        out["user"] = self.users.add(consumed["user_id"].to_list())
        out["item"] = self.items.add(consumed["item_id"].to_list())
        out["time"] = consumed["time"].to_numpy()
        out["strength"] = consumed["strength"].to_numpy()
        out["consumed"] = out["before"] = True
        return out
