"""Routes of events and of the state that they make: /v1/events, /v1/recommend, users and items."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr
from pydantic import model_validator as check

from goalrank.constraints import Constraints
from goalrank.errors import ConfigError
from goalrank.serving.http.access import ARRIVED
from goalrank.serving.http.schemas import (
    MOST_CANDIDATES,
    Answer,
    EventTime,
    Id,
    RankBody,
    RequestId,
    RequestTime,
    Score,
)
from goalrank.serving.ranking.batcher import Batcher
from goalrank.serving.ranking.served_bundles import DEFAULT
from goalrank.serving.ranking.service import Service
from goalrank.serving.state.event_rules import EventRules
from goalrank.serving.state.keeper import StateKeeper
from goalrank.serving.state.live import Wished
from goalrank.serving.state.logged import LoggedColumns, LoggedEvent, SideTable
from goalrank.serving.store.records import micros

__all__ = ["MOST_EVENTS", "add_events"]

MOST_EVENTS = 10_000
MOST_ROWS = 20_000  # other writes wait for a body's transaction, and give up after 5 seconds
Kind = Annotated[str, Field(min_length=1, max_length=128)]
Texts = list[Annotated[StrictStr, Field(max_length=256)]]
Cell = (
    StrictBool
    | Score
    | Annotated[StrictStr, Field(max_length=1000)]
    | Annotated[Texts, Field(max_length=64)]
    | Annotated[list[Score], Field(max_length=4096)]
)
"""Value of a column; the model's columns say which type."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Interaction(_Body):
    """What a user did with an item.

    Attributes:
        type: "interaction".
        event_id: makes sending it again harmless; a hash of the content if absent.
        user_id: who.
        item_id: what.
        time: when, with a time zone; now if absent.
        values: feedback type → value; types that are not named are 0.
    """

    type: Literal["interaction"]
    event_id: RequestId | None = None
    user_id: Id
    item_id: Id
    time: EventTime | None = None
    values: dict[Kind, Score] = Field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of rows of the event log."""
        return 1

    def rows(self, now: datetime) -> list[LoggedEvent]:
        """Rows of the event log."""
        moment = micros(self.time or now)
        values = dict(self.values)
        return [
            LoggedEvent(
                self.user_id, self.item_id, moment, values,
                event_id=self.event_id, timed=self.time is not None,
            )
        ]  # fmt: skip

    def told(self, now: datetime) -> list[LoggedColumns]:
        """Nothing is said of the user or the item alone."""
        return []


class Shown(_Body):
    """A list that a user was shown, with the answers.

    Attributes:
        type: "exposure".
        event_id: makes sending it again harmless; a hash of the content if absent.
        user_id: who.
        items: 1 … 1,000 item ids, in the order shown.
        time: when, with a time zone; now if absent.
        values: feedback type → one value per item; types that are not named are 0.
    """

    type: Literal["exposure"]
    event_id: RequestId | None = None
    user_id: Id
    items: list[Id] = Field(min_length=1, max_length=1000)
    time: EventTime | None = None
    values: dict[Kind, list[Score]] = Field(default_factory=dict)

    @check(mode="after")
    def _aligned(self) -> Shown:
        for kind, values in self.values.items():
            if len(values) != len(self.items):
                raise ValueError(f"values.{kind} has {len(values)} entries for {len(self.items)}")
        return self

    @property
    def count(self) -> int:
        """Number of rows of the event log."""
        return len(self.items)

    def rows(self, now: datetime) -> list[LoggedEvent]:
        """Rows of the event log, one per item."""
        moment = micros(self.time or now)
        return [
            LoggedEvent(
                self.user_id, item, moment, {k: v[at] for k, v in self.values.items()},
                event_id=None if self.event_id is None else f"{self.event_id}/{at}",
                timed=self.time is not None,
            )
            for at, item in enumerate(self.items)
        ]  # fmt: skip

    def told(self, now: datetime) -> list[LoggedColumns]:
        """Nothing is said of the user or an item alone."""
        return []


class _ToldBody(_Body):
    """Base of what is said of an item or a user."""

    event_id: RequestId | None = None
    time: EventTime | None = None
    columns: dict[Kind, Cell] = Field(min_length=1, max_length=256)

    @property
    def count(self) -> int:
        """Number of rows of the event log."""
        return 1

    def rows(self, now: datetime) -> list[LoggedEvent]:
        """Nothing happened between a user and an item."""
        return []

    def _said(self, table: SideTable, own: int | str, now: datetime) -> list[LoggedColumns]:
        moment, timed = micros(self.time or now), self.time is not None
        return [LoggedColumns(table, own, moment, self.columns, self.event_id, timed)]


class ItemColumns(_ToldBody):
    """What is said of an item.

    Attributes:
        type: "item".
        event_id: makes sending it again harmless; a hash of the content if absent.
        item_id: of whom it is said; may be new.
        time: since when it holds, with a time zone; now if absent.
        columns: columns of the items' side table that the model was trained with → value, or
            `title` and `url` for display. Columns that are not named stay as they are.
    """

    type: Literal["item"]
    item_id: Id

    def told(self, now: datetime) -> list[LoggedColumns]:
        """Rows of the event log."""
        return self._said("items", self.item_id, now)


class UserColumns(_ToldBody):
    """What is said of a user.

    Attributes:
        type: "user".
        event_id: makes sending it again harmless; a hash of the content if absent.
        user_id: of whom it is said; may be new.
        time: since when it holds, with a time zone; now if absent.
        columns: columns of the users' side table that the model was trained with → value. Columns
            that are not named stay as they are.
    """

    type: Literal["user"]
    user_id: Id

    def told(self, now: datetime) -> list[LoggedColumns]:
        """Rows of the event log."""
        return self._said("users", self.user_id, now)


AnyEvent = Annotated[Interaction | Shown | ItemColumns | UserColumns, Field(discriminator="type")]


class EventsBody(_Body):
    """Events; all are stored or none.

    Attributes:
        events: 1 … 10,000 events, in any order, of at most 20,000 items together.
    """

    events: list[AnyEvent] = Field(min_length=1, max_length=MOST_EVENTS)

    @check(mode="after")
    def _bounded(self) -> EventsBody:
        rows = sum(event.count for event in self.events)
        if rows > MOST_ROWS:
            raise ValueError(
                f"events have {rows:,} items together, at most {MOST_ROWS:,} are stored at once; "
                f"remedy: several requests"
            )
        return self


class EventsAnswer(_Body):
    """What the log did with the events.

    Attributes:
        stored: new rows: an exposure has one per item.
        duplicates: rows that were there with the same content.
        position: number of the log's latest row.
    """

    stored: int
    duplicates: int
    position: int


class RecommendBody(_Body):
    """A request for a list from all items.

    Attributes:
        request_id: as in /v1/rank.
        user_id: a string or an integer, as in training.
        time: of the request, with a time zone, from 1970 to a day ahead; now if absent.
        slots: L, 1 … 100; the model's if absent.
        candidates: how many items are retrieved and ranked; as in training if absent.
        exclude_seen: whether items that the user ever consumed are left out; as in training if
            absent. True is refused where the import kept them: the state does not know all then.
        rules: constraints of this request, in addition to the server's.
    """

    request_id: RequestId | None = None
    user_id: Id
    time: RequestTime | None = None
    slots: int | None = Field(default=None, strict=True, ge=1, le=100)
    candidates: int | None = Field(default=None, strict=True, ge=1, le=MOST_CANDIDATES)
    exclude_seen: bool | None = None
    rules: Constraints | None = None


class Forgotten(_Body):
    """What was deleted about a user.

    Attributes:
        known: whether the state knew the user.
        events: rows of the event log.
        exposures: rows of the store.
    """

    known: bool
    events: int
    exposures: int


def add_events(routes: APIRouter, service: Service, keeper: StateKeeper) -> None:
    """Add the routes.

    Args:
        routes: those that check the key; these are added to them.
        service: ranks and stores.
        keeper: state of this process.
    """
    # A thread: retrieval holds the state's lock, and the event loop must be free to refuse. Those
    # that wait are retrieved together.
    retrieval: Batcher[RecommendBody, _Retrieved] = Batcher(
        lambda bodies: _retrieved(bodies, keeper),
        full="too many requests wait for retrieval; send it again", batch_size=16,
    )  # fmt: skip
    service.close_first(retrieval)

    @routes.post("/v1/events")
    def events(body: EventsBody) -> EventsAnswer:
        """Store events; when this answers, they are on disk and count for the next list."""
        now = datetime.now(UTC)
        rows = [row for event in body.events for row in event.rows(now)]
        told = [row for event in body.events for row in event.told(now)]
        rules = _rules(service)
        rules.check(rows, now)
        rules.check_columns(told, now)
        done = keeper.append([*rows, *told])
        return EventsAnswer(stored=done.stored, duplicates=done.duplicates, position=done.last)

    @routes.post("/v1/recommend", response_model=Answer)
    async def recommend(body: RecommendBody, request: Request) -> Response:
        """Retrieve candidates for a user and rank them."""
        found = await asyncio.wrap_future(retrieval.submit(body))
        asked = _asked(body, found)
        answer = (await service.rank_async([asked], request.scope.get(ARRIVED)))[0]
        answer.state_ahead = found.ahead
        return Response(answer.model_dump_json(), media_type="application/json")

    @routes.get("/v1/users/{user_id}")
    def user(user_id: Annotated[str, Path(max_length=256)]) -> dict[str, Any]:
        """What the state knows of a user."""
        keeper.follow()
        return keeper.live.user(
            _rules(service).parse_id(user_id, "users"), micros(datetime.now(UTC))
        )

    @routes.get("/v1/items/{item_id}")
    def item(item_id: Annotated[str, Path(max_length=256)]) -> dict[str, Any]:
        """What the state knows of an item."""
        keeper.follow()
        return keeper.live.item(
            _rules(service).parse_id(item_id, "items"), micros(datetime.now(UTC))
        )

    @routes.delete("/v1/users/{user_id}")
    def forget(user_id: Annotated[str, Path(max_length=256)]) -> Forgotten:
        """Forget a user: state, events, snapshot, exposures and their feedback."""
        wanted = _rules(service).parse_id(user_id, "users")
        known, deleted = keeper.forget(wanted)
        return Forgotten(known=known, events=deleted.events, exposures=deleted.exposures)


@dataclass(frozen=True)
class _Retrieved:
    """What the state gave for a request.

    Attributes:
        moment: time of the request.
        columns: candidates, history and features.
        ahead: seconds by which the state was later than the moment.
    """

    moment: datetime
    columns: dict[str, Any]
    ahead: float


def _retrieved(bodies: Sequence[RecommendBody], keeper: StateKeeper) -> list[_Retrieved]:
    keeper.follow()
    now = datetime.now(UTC)
    moments = [body.time or now for body in bodies]
    found = keeper.live.retrieve([
        Wished(body.user_id, micros(moment), body.candidates, body.exclude_seen)
        for body, moment in zip(bodies, moments)
    ])  # fmt: skip
    return [_Retrieved(moment, each, keeper.ahead(moment)) for moment, each in zip(moments, found)]


def _asked(body: RecommendBody, found: _Retrieved) -> RankBody:
    if not found.columns["candidates"]:
        raise ConfigError(
            "no item is left for this user; remedy: exclude_seen false, or give candidates (POST "
            "/v1/rank)"
        )
    return RankBody.model_construct(
        _fields_set={"candidates", *found.columns}, request_id=body.request_id,
        user_id=body.user_id, time=found.moment, slots=body.slots, rules=body.rules,
        **found.columns,
    )  # fmt: skip


def _rules(service: Service) -> EventRules:
    """Rules of the bundle that is served now; another one may be put in its place."""
    return EventRules.of(service.predictors[DEFAULT].bundle)
