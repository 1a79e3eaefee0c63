"""`EventRules`: what events must be like, so that a model can go on with them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from goalrank.bundles import Bundle
from goalrank.errors import ConfigError
from goalrank.features import MOST_SUMMED
from goalrank.requests import EntityEncoder, SideColumns, TableInfo
from goalrank.serving.state.logged import LoggedColumns, LoggedEvent, SideTable
from goalrank.serving.store.records import micros

__all__ = ["EventRules"]

_AHEAD = timedelta(minutes=5)  # that a sender's clock may be ahead
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHORT = 60  # characters of a value in a message
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")


@dataclass(frozen=True)
class EventRules:
    """Rules that follow from the data that a model was trained on.

    Attributes:
        kinds: feedback types that events may name.
        types: "users" and "items" → type of the ids.
        averaged: feedback types that features average.
        columns: "items" and "users" → columns that may be said of them.
    """

    kinds: tuple[str, ...]
    types: Mapping[SideTable, type]
    averaged: tuple[str, ...] = ()
    columns: Mapping[SideTable, SideColumns] = field(default_factory=dict)

    @classmethod
    def of(cls, bundle: Bundle) -> EventRules:
        """Rules of a bundle's model.

        Args:
            bundle: of the model.
        """
        encoder = bundle.encoder
        tables: dict[SideTable, EntityEncoder] = {"users": encoder.users, "items": encoder.items}
        ids = {name: table.vocabulary.ids.dtype for name, table in tables.items()}
        columns = {
            name: SideColumns.of(table.features).shown_too() for name, table in tables.items()
        }
        return replace(cls.from_ids(encoder.info, ids), columns=columns)

    @classmethod
    def from_ids(cls, info: TableInfo, ids: Mapping[SideTable, pl.DataType]) -> EventRules:
        """Rules by the description of a table and its columns of ids.

        Args:
            info: of the requests that the model was trained on.
            ids: "users" and "items" → type of the column.
        """
        types: dict[SideTable, type] = {
            name: str if dtype == pl.String else int for name, dtype in ids.items()
        }
        averaged = () if info.computed is None else info.computed.kinds
        return cls(tuple(info.feedback_kinds), types, averaged)

    def check(self, events: Sequence[LoggedEvent], now: datetime) -> None:
        """Refuse events that the model cannot use.

        Args:
            events: of a batch; one bad event refuses all.
            now: later events than a few minutes after it are of the future.

        Raises:
            ConfigError: an unknown feedback type, a value too large to sum up, an id of another
                type, or a time of the future.
        """
        for event in events:
            self._check_kinds(event)
            self._check_values(event)
            self._check_id("users", event.user_id)
            self._check_id("items", event.item_id)
            _check_time(event.time, now)

    def check_columns(self, told: Sequence[LoggedColumns], now: datetime) -> None:
        """Refuse what the model cannot use of what is said of items and users.

        Args:
            told: of a batch; one bad row refuses all.
            now: see `check`.

        Raises:
            ConfigError: an unknown column, a value of another type, an id of another type, or a
                time of the future.
        """
        for each in told:
            self._check_id(each.table, each.id)
            for name, value in each.columns.items():
                self._check_column(each, name, value)
            _check_time(each.time, now)

    def _check_column(self, told: LoggedColumns, name: str, value: Any) -> None:
        columns = self.columns[told.table]
        if name not in columns.names:
            raise ConfigError(
                f"{told.table} have no column '{name}'; this model was trained with "
                f"{', '.join(columns.names)}; nothing was stored; remedy: name one of these"
            )
        wanted = columns.wanted(name, value)
        if wanted is not None:
            raise ConfigError(
                f"columns.{name} of {told.table} is {_short(value)}, but was {wanted} in training; "
                f"nothing was stored; remedy: send {wanted}, or leave the column out"
            )

    def _check_kinds(self, event: LoggedEvent) -> None:
        odd = sorted(set(event.values) - set(self.kinds))
        if odd and not event.before:
            raise ConfigError(
                f"feedback type '{odd[0]}' is unknown to this model, which knows "
                f"{', '.join(self.kinds)}; nothing was stored; remedy: name one of these"
            )

    def _check_values(self, event: LoggedEvent) -> None:
        for kind in self.averaged:
            value = event.values.get(kind, 0.0)
            if abs(value) > MOST_SUMMED:
                raise ConfigError(
                    f"values.{kind} is {value:g}, but features average it, and it must be between "
                    f"-1e6 and 1e6; nothing was stored; remedy: another unit"
                )

    def _check_id(self, table: SideTable, each: int | str) -> None:
        if type(each) is not self.types[table]:
            raise ConfigError(
                f"{table}: id {each!r} is a {type(each).__name__}, but this model's are "
                f"{self.types[table].__name__}: a string '7' and a number 7 are different ids"
            )

    def parse_id(self, text: str, table: SideTable) -> int | str:
        """An id of the model's type from its text.

        Args:
            text: of a path.
            table: "users" or "items".

        Raises:
            ConfigError: the model's ids are integers, and this is none of 64 bits.
        """
        if self.types[table] is str:
            return text
        # int() also reads ' 7', '1_0' and digits of other scripts, which would be another's id.
        if _INTEGER.fullmatch(text) and -(2**63) <= int(text) < 2**63:
            return int(text)
        raise ConfigError(
            f"'{text}' is no integer of 64 bits in plain digits, but this model's {table} are"
        )


def _check_time(time: int, now: datetime) -> None:
    if not 0 <= time <= micros(now + _AHEAD):
        raise ConfigError(_other_time(time, now))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"


def _other_time(time: int, now: datetime) -> str:
    try:
        moment = (_EPOCH + timedelta(microseconds=time)).isoformat()
    except OverflowError:
        moment = f"{time} µs"
    return (
        f"time {moment} is before 1970 or more than 5 minutes ahead of this server "
        f"({now.isoformat(timespec='seconds')}); nothing was stored; remedy: mend the sender's clock"
    )
