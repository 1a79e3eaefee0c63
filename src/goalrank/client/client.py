"""Calls of the service with typed bodies and answers; needs httpx and nothing else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Self, Unpack, cast
from urllib.parse import quote

from goalrank.client.bodies import (
    Answer,
    BatchAnswer,
    EventBody,
    EventsAnswer,
    FeedbackAnswer,
    Forgotten,
    Interaction,
    RankBody,
    RecommendBody,
    Shown,
)
from goalrank.errors import GoalRankError, MissingExtraError

Id = int | str
_BUSY = (429, 503)
_LONGEST_PAUSE = 5.0


class Refused(GoalRankError):
    """The service answered with an error.

    Attributes:
        status: of the answer.
        code: for machines, e.g. "missing_input".
        details: where in the body each rule is broken.
    """

    def __init__(
        self, status: int, code: str, message: str, details: Sequence[dict[str, Any]] = ()
    ) -> None:
        where = "".join(f"; {fault.get('where')}: {fault.get('rule')}" for fault in details)
        super().__init__(f"{status} {code}: {message}{where}")
        self.status = status
        self.code = code
        self.details = list(details)


class Client:
    """A connection to a service; safe to share between threads.

    Bodies and answers are dictionaries with declared fields (`goalrank.client.RankBody` and so on),
    made from the service's own description, so that a type checker knows them. Ids are integers or
    strings as in training; times are ISO 8601 with a zone.

    An answer "too busy" (429, 503) is tried again after the pause that the service asks for. A lost
    connection is tried again where sending twice is harmless: everywhere but `rank`, `rank_batch` and
    `recommend`, whose first try may have stored an exposure already.

    Args:
        url: of the service, e.g. "http://127.0.0.1:8000".
        key: where the service has keys.
        timeout: seconds per try.
        tries: at most, at least 1.

    Raises:
        MissingExtraError: httpx is not installed.
    """

    def __init__(
        self, url: str, key: str | None = None, *, timeout: float = 5.0, tries: int = 3
    ) -> None:
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise MissingExtraError("goalrank.client", "client") from error
        self._lost = httpx.TransportError
        self._tries = max(tries, 1)
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def rank(self, **body: Unpack[RankBody]) -> Answer:
        """Ask for one list of the given candidates.

        Raises:
            Refused: the service refuses; `code` says why.
        """
        return cast(Answer, self._call("POST", "/v1/rank", body, again=False))

    def rank_batch(self, requests: Sequence[RankBody]) -> list[Answer]:
        """Ask for several lists, answered in their order; all are stored or none."""
        body = {"requests": list(requests)}
        return cast(BatchAnswer, self._call("POST", "/v1/rank:batch", body, again=False))["lists"]

    def recommend(self, **body: Unpack[RecommendBody]) -> Answer:
        """Ask for a list from all items; needs a service that keeps state."""
        return cast(Answer, self._call("POST", "/v1/recommend", body, again=False))

    def feedback(self, events: Sequence[EventBody]) -> FeedbackAnswer:
        """Send feedback on lists that the service answered; sending it again changes nothing."""
        return cast(FeedbackAnswer, self._call("POST", "/v1/feedback", {"events": list(events)}))

    def events(self, events: Sequence[Interaction | Shown]) -> EventsAnswer:
        """Send events; when this returns, they are on disk and count for the next list.

        Events without a time get the moment of each try, and count twice where a try was lost:
        give them a `time` or an `event_id`.
        """
        again = all("event_id" in event or "time" in event for event in events)
        body = {"events": list(events)}
        return cast(EventsAnswer, self._call("POST", "/v1/events", body, again=again))

    def user(self, user_id: Id) -> dict[str, Any]:
        """What the service knows of a user."""
        return cast(dict[str, Any], self._call("GET", f"/v1/users/{_path(user_id)}"))

    def item(self, item_id: Id) -> dict[str, Any]:
        """What the service knows of an item."""
        return cast(dict[str, Any], self._call("GET", f"/v1/items/{_path(item_id)}"))

    def forget_user(self, user_id: Id) -> Forgotten:
        """Delete a user's state, events, exposures and feedback."""
        return cast(Forgotten, self._call("DELETE", f"/v1/users/{_path(user_id)}"))

    def models(self) -> list[dict[str, Any]]:
        """The models that are served now."""
        return cast(list[dict[str, Any]], self._call("GET", "/v1/models")["models"])

    def is_ready(self) -> bool:
        """Whether the service answers and is ready; False where it cannot be reached."""
        try:
            return bool(self._http.get("/health/ready").status_code == 200)
        except self._lost:
            return False

    def _call(self, method: str, path: str, body: Any = None, *, again: bool = True) -> Any:
        for left in reversed(range(self._tries)):
            try:
                answer = self._http.request(method, path, json=body)
            except self._lost:
                if not left or not again:
                    raise
                continue
            if answer.status_code not in _BUSY or not left:
                break
            time.sleep(min(float(answer.headers.get("Retry-After", 1)), _LONGEST_PAUSE))
        return answer.json() if answer.is_success else _refuse(answer)


def _path(given: Id) -> str:
    return quote(str(given), safe="")


def _refuse(answer: Any) -> None:
    try:
        error = answer.json()["error"]
        found = Refused(
            answer.status_code, error["code"], error["message"], error.get("details", [])
        )
    except (ValueError, KeyError, TypeError) as fault:  # a proxy's answer
        raise Refused(answer.status_code, "unknown", answer.text[:200]) from fault
    raise found
