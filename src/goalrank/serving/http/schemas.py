"""What HTTP callers send and get."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, StrictStr
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
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RankBody(_Body):
    """One request for a list.

    Attributes:
        request_id: given out if absent; feedback refers to it.
        time: now if absent.
        history: item ids, oldest first. Events without `history_time` count as having happened
            just before `time`; without `history_feedback` as 1.
        candidates: 1 … 10,000 distinct item ids.
        slots: L; default is the model's.
    """

    request_id: RequestId | None = None
    user_id: Id
    time: AwareDatetime | None = None
    history: list[Id] = Field(default_factory=list, max_length=MOST_HISTORY)
    history_feedback: list[Score] | None = None
    history_time: list[AwareDatetime] | None = None
    candidates: list[Id] = Field(min_length=1, max_length=MOST_CANDIDATES)
    candidate_score: list[Score] | None = None
    candidate_features: list[list[Score]] | None = None
    slots: int | None = Field(default=None, strict=True, ge=1, le=100)
    rules: Constraints | None = None

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
        if self.time is not None and not _EPOCH <= self.time < _LATEST:
            raise ValueError("time lies between the years 1970 and 9999")
        times = self.history_time or []
        if any(a > b for a, b in pairwise(times)):
            raise ValueError("history runs from oldest to newest")
        if times and times[-1] >= (self.time or datetime.now(UTC)):
            raise ValueError("history lies strictly before time")
        return self

    def row(self, request_id: str, now: datetime) -> dict[str, Any]:
        """A row of the requests table."""
        time = (self.time or now).astimezone(UTC)
        count = len(self.history)
        if self.history_time is None:
            times = [time - timedelta(microseconds=count - k) for k in range(count)]
        else:
            times = [each.astimezone(UTC) for each in self.history_time]
        return {
            "request_id": request_id, "user_id": self.user_id, "time": time,
            "history": self.history, "history_feedback": self.history_feedback or [1.0] * count,
            "history_time": times, "candidates": self.candidates,
            "candidate_score": self.candidate_score,
            "candidate_features": self.candidate_features or [],
        }  # fmt: skip


class BatchBody(_Body):
    """Several requests, answered in their order; all are stored or none."""

    requests: list[RankBody] = Field(min_length=1, max_length=MOST_BATCH)


class Answer(_Body):
    """A list.

    Attributes:
        items: ids, best first.
        log_prob: of the list under the policy (rules included); null where degraded.
        propensity: probability with which this list was served; null where degraded.
        policy: name of the model, or `retriever`.
        experiment: experiment:variant, several parted by commas.
        relaxed: rules given up because no list obeys them all.
        degraded: the retriever's order, because the model failed or the deadline passed.
        logged: the exposure is in the store.
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


class BatchAnswer(_Body):
    """Answers in the order of the requests."""

    lists: list[Answer]


class EventBody(_Body):
    """One answer of a user."""

    request_id: RequestId
    item: Id
    kind: Annotated[str, Field(min_length=1, max_length=128)]
    value: Score = 1.0


class FeedbackBody(_Body):
    """Answers of users; all are stored or none."""

    events: list[EventBody] = Field(min_length=1, max_length=MOST_BATCH)


class FeedbackAnswer(_Body):
    """How many events were new, there already, or there with another value (now replaced)."""

    stored: int
    duplicates: int
    replaced: int


class Fault(BaseModel):
    """What a refusal says.

    Attributes:
        code: for machines.
        message: for people: the value met, the rule it breaks, the remedy.
        details: where in the request each rule is broken.
    """

    code: str
    message: str
    details: list[dict[str, Any]] = Field(default_factory=list)


class Refusal(BaseModel):
    """The body of every answer that is none of 2xx."""

    error: Fault


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": said}
    for status, said in {
        400: "The body is no JSON.",
        401: "No key, or a wrong one.",
        404: "Unknown: the path, the request or the item.",
        405: "Not this method.",
        408: "The body came too slowly.",
        409: "The request id is in the store already.",
        413: "The body is too large.",
        422: "The request breaks a rule.",
        429: "Too many requests for this key.",
        503: "The store refuses, or the server is not ready.",
    }.items()
}
