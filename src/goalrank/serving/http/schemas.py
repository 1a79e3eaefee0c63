"""Schemas of what HTTP callers send and get."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictStr,
)
from pydantic import model_validator as check

from goalrank.constraints import Constraints
from goalrank.requests import aligned_with

MOST_CANDIDATES = 10_000
MOST_HISTORY = 10_000
MOST_BATCH = 1_000

IntId = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
Id = IntId | Annotated[StrictStr, Field(max_length=256)]
RequestId = Annotated[str, Field(pattern=r"^[!-~]{1,128}$")]
Score = Annotated[FiniteFloat, Field(strict=True, ge=-3e38, le=3e38)]  # fits float32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AHEAD = timedelta(days=1)  # clocks differ; what is later would sort last in every export for ever


def _near(time: datetime) -> datetime:
    latest = datetime.now(UTC) + _AHEAD
    if not _EPOCH <= time < latest:
        raise ValueError(
            f"time must be from 1970 on and at most a day ahead of the server's clock "
            f"({latest - _AHEAD:%Y-%m-%dT%H:%M:%SZ})"
        )
    return time


def _written(time: object) -> object:
    """Refuse numbers, which do not say whether they are seconds or milliseconds."""
    if isinstance(time, datetime) or (isinstance(time, str) and "-" in time.lstrip(" -")):
        return time
    raise ValueError(
        f"time {str(time)[:40]} does not say its unit; remedy: date, time and zone as text, e.g. "
        f"'2026-01-31T12:00:00Z'"
    )


EventTime = Annotated[AwareDatetime, BeforeValidator(_written)]
RequestTime = Annotated[EventTime, AfterValidator(_near)]


class _Body(BaseModel):
    """Base of all bodies: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class RankBody(_Body):
    """One request for a list.

    Attributes:
        request_id: up to 128 printable ASCII characters; made by the server if absent. Feedback
            refers to it.
        user_id: a string or an integer, as in training.
        time: of the request, with a time zone, from 1970 to a day ahead; now if absent.
        history: item ids, oldest first; from state if absent, where the server keeps state.
        history_feedback: one value per item of the history, for models trained with such.
        history_time: one time per item of the history, before `time`, for models trained with such.
        candidates: 1 … 10,000 distinct item ids.
        candidate_score: the retriever's scores, one per candidate, for models trained with such.
        candidate_features: one vector per candidate, for models trained with such features; from
            state if absent, where the server keeps state.
        slots: L, 1 … 100; the model's if absent.
        rules: constraints of this request, in addition to the server's.
        missing: what is done where an input that the model was trained with is absent: "refuse"
            (422, missing_input) or "mean", its mean over the training requests; the server's
            setting if absent.
    """

    request_id: RequestId | None = None
    user_id: Id
    time: RequestTime | None = None
    history: list[Id] = Field(default_factory=list, max_length=MOST_HISTORY)
    history_feedback: list[Score] | None = None
    history_time: list[EventTime] | None = None
    candidates: list[Id] = Field(min_length=1, max_length=MOST_CANDIDATES)
    candidate_score: list[Score] | None = None
    candidate_features: list[list[Score]] | None = None
    slots: int | None = Field(default=None, strict=True, ge=1, le=100)
    rules: Constraints | None = None
    missing: Literal["refuse", "mean"] | None = None

    @check(mode="after")
    def _consistent(self) -> RankBody:
        if len(set(self.candidates)) < len(self.candidates):
            raise ValueError("candidates are distinct, but an id occurs twice")
        along = [(name, self.history) for name in aligned_with("history")]
        along += [(name, self.candidates) for name in aligned_with("candidates")]
        for name, base in along:
            values = getattr(self, name)
            if values is not None and len(values) != len(base):
                raise ValueError(f"{name} has {len(values)} entries for {len(base)}")
        times = self.history_time or []
        if sorted(times) != times:
            raise ValueError("history must be in order of time, oldest first")
        if times and times[-1] >= (self.time or datetime.now(UTC)):
            raise ValueError("history must be before time")
        return self

    def row(self, request_id: str, now: datetime) -> dict[str, Any]:
        """Make a row of the requests table; what the body lacks is None or empty in it.

        Args:
            request_id: of the row; the body's may be absent.
            now: time of the row if the body has none.
        """
        times = self.history_time
        return {
            "request_id": request_id, "user_id": self.user_id,
            "time": (self.time or now).astimezone(UTC),
            "history": self.history, "history_feedback": self.history_feedback or [],
            "history_time": [each.astimezone(UTC) for each in times or []],
            "candidates": self.candidates, "candidate_score": self.candidate_score,
            "candidate_features": self.candidate_features or [],
        }  # fmt: skip


class BatchBody(_Body):
    """Several requests, answered in their order; all are stored or none.

    Attributes:
        requests: 1 … 1,000 requests.
    """

    requests: list[RankBody] = Field(min_length=1, max_length=MOST_BATCH)


class Answer(_Body):
    """A list.

    Attributes:
        request_id: of the request.
        items: item ids, best first.
        log_prob: log-probability of the list under the policy with its constraints; null where
            degraded.
        propensity: probability with which this list was served; null where degraded.
        policy: name of the model, or `retriever`.
        experiment: experiment:variant, several separated by commas.
        relaxed: constraints that were relaxed because no list obeys them all.
        degraded: the list is in the retriever's order, because the model failed or the deadline
            passed.
        logged: the exposure is in the store.
        filled: inputs that the request lacks, of which the model got its mean over the training
            requests; the store keeps these values.
        state_age: seconds since the latest event that the state knows; null where the server keeps
            no state, or before the first event.
        state_ahead: seconds by which the state that filled in the request is later than its time: 0
            for requests of now; above, it knows of events after that time. Null where the request
            brought everything.
    """

    request_id: str
    items: list[Id]
    log_prob: float | None
    propensity: float | None
    policy: str
    experiment: str | None = None
    relaxed: list[str] = Field(default_factory=list)
    degraded: bool = False
    logged: bool = True
    filled: list[str] = Field(default_factory=list)
    state_age: float | None = None
    state_ahead: float | None = None


class BatchAnswer(_Body):
    """Several lists.

    Attributes:
        lists: in the order of the requests.
    """

    lists: list[Answer]


class EventBody(_Body):
    """Feedback of a user to one item.

    Attributes:
        request_id: of the answer that the item was in.
        item: id of a shown item.
        kind: feedback type, e.g. "click".
        value: of the feedback.
    """

    request_id: RequestId
    item: Id
    kind: Annotated[str, Field(min_length=1, max_length=128)]
    value: Score = 1.0


class FeedbackBody(_Body):
    """Feedback of users; all events are stored or none.

    Attributes:
        events: 1 … 1,000 events.
    """

    events: list[EventBody] = Field(min_length=1, max_length=MOST_BATCH)


class FeedbackAnswer(_Body):
    """What the store did with the events.

    Attributes:
        stored: new events.
        duplicates: events stored before with the same value.
        replaced: events stored before with another value, which was replaced.
    """

    stored: int
    duplicates: int
    replaced: int


class ErrorContent(BaseModel):
    """Description of an error.

    Attributes:
        code: for machines.
        message: for people: the value that was found, the rule it breaks, the remedy.
        details: where in the request each rule is broken.
    """

    code: str
    message: str
    details: list[dict[str, Any]] = Field(default_factory=list)


class ErrorAnswer(BaseModel):
    """Body of every answer whose status is not 2xx.

    Attributes:
        error: what went wrong.
    """

    error: ErrorContent


ERROR_ANSWERS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": description}
    for status, description in {
        400: "The body is not JSON.",
        401: "The key is missing or wrong.",
        404: "The path, the request or the item is unknown.",
        405: "The path does not take this method.",
        408: "The body arrived too slowly.",
        409: "The request id is in the store already.",
        413: "The body is too large.",
        422: "The request breaks a rule.",
        421: "The Host header names another server.",
        429: "Too many requests for this key.",
        431: "The headers are too large.",
        503: "The store refuses, the server has too much work, or is not ready.",
    }.items()
}
