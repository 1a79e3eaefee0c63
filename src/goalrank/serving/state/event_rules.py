"""`EventRules`: what events must be like, so that a model can go on with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from goalrank.bundles import Bundle
from goalrank.errors import ConfigError
from goalrank.serving.state.event_log import LoggedEvent
from goalrank.serving.store.records import micros

__all__ = ["EventRules"]

_AHEAD = timedelta(minutes=5)  # that a sender's clock may be ahead
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class EventRules:
    """Rules that follow from the data that a model was trained on.

    Attributes:
        kinds: feedback types that events may name.
        types: "users" and "items" → type of the ids.
    """

    kinds: tuple[str, ...]
    types: dict[str, type]

    @classmethod
    def of(cls, bundle: Bundle) -> EventRules:
        """Rules of a bundle's model.

        Args:
            bundle: of the model.
        """
        encoder = bundle.encoder
        tables = {"users": encoder.users, "items": encoder.items}
        ids = {name: table.vocabulary.ids.dtype for name, table in tables.items()}
        return cls.from_ids(encoder.info.feedback_kinds, ids)

    @classmethod
    def from_ids(cls, kinds: Sequence[str], ids: Mapping[str, pl.DataType]) -> EventRules:
        """Rules by feedback types and the columns of ids.

        Args:
            kinds: feedback types that events may name.
            ids: "users" and "items" → type of the column.
        """
        types: dict[str, type] = {
            name: str if dtype == pl.String else int for name, dtype in ids.items()
        }
        return cls(tuple(kinds), types)

    def check(self, events: Sequence[LoggedEvent], now: datetime) -> None:
        """Refuse events that the model cannot use.

        Args:
            events: of a batch; one bad event refuses all.
            now: later events than a few minutes after it are of the future.

        Raises:
            ConfigError: an unknown feedback type, an id of another type, or a time of the future.
        """
        latest = micros(now + _AHEAD)
        for event in events:
            self._check_kinds(event)
            self._check_id("users", event.user_id)
            self._check_id("items", event.item_id)
            if not 0 <= event.time <= latest:
                raise ConfigError(_other_time(event.time, now))

    def _check_kinds(self, event: LoggedEvent) -> None:
        odd = sorted(set(event.values) - set(self.kinds))
        if odd and not event.before:
            raise ConfigError(
                f"feedback type '{odd[0]}' is unknown to this model, which knows "
                f"{', '.join(self.kinds)}; nothing was stored; remedy: name one of these"
            )

    def _check_id(self, table: str, each: int | str) -> None:
        if type(each) is not self.types[table]:
            raise ConfigError(
                f"{table}: id {each!r} is a {type(each).__name__}, but this model's are "
                f"{self.types[table].__name__}: a string '7' and a number 7 are different ids"
            )

    def parse_id(self, text: str, table: str) -> int | str:
        """An id of the model's type from its text.

        Args:
            text: of a path.
            table: "users" or "items".

        Raises:
            ConfigError: the model's ids are integers, and this is none.
        """
        if self.types[table] is str:
            return text
        try:
            return int(text)
        except ValueError:
            raise ConfigError(f"'{text}' is no integer, but this model's {table} are") from None


def _other_time(time: int, now: datetime) -> str:
    try:
        moment = (_EPOCH + timedelta(microseconds=time)).isoformat()
    except OverflowError:
        moment = f"{time} µs"
    return (
        f"time {moment} is before 1970 or more than 5 minutes ahead of this server "
        f"({now.isoformat(timespec='seconds')}); nothing was stored; remedy: mend the sender's clock"
    )
