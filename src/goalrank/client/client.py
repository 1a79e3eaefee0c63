"""Calls of the service with typed bodies and answers; needs httpx and nothing else."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self, Unpack, cast
from urllib.parse import quote, urlsplit

from goalrank.client.bodies import (
    Answer,
    BatchAnswer,
    EventBody,
    Events,
    EventsAnswer,
    FeedbackAnswer,
    Forgotten,
    RankBody,
    RecommendBody,
)
from goalrank.errors import ConfigError, DataError, GoalRankError, MissingExtraError

Id = int | str
_BUSY = (429, 503)
_LONGEST_PAUSE = 5.0
_FIRST_PAUSE = 0.1  # after a lost connection; doubled each time


class Refused(GoalRankError):
    """The service answered with an error.

    Attributes:
        status: of the answer.
        code: for machines, e.g. "missing_input".
        details: where in the body each rule is broken.
        retry_after: seconds after which the service may be asked again; None where it does not say.
    """

    retry_after: float | None = None

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
    strings as in training; times are ISO 8601 with a zone. Numbers and arrays of NumPy and datetimes
    are taken too.

    An answer "too busy" (429, 503) is tried again after the pause that the service asks for; where
    that is above 5 s the answer is raised at once, and `retry_after` tells the pause. A connection
    that could not be made is tried again after a short pause. A lost one is tried again where sending
    twice is harmless: everywhere but `rank`, `rank_batch` and `recommend`, whose first try may have
    stored an exposure already.

    All calls raise `Refused` where the service answers with an error, `httpx.TransportError` where it
    cannot be reached in any try, and DataError where the body cannot be written as JSON.

    Args:
        url: of the service, e.g. "http://127.0.0.1:8000".
        key: where the service has keys.
        timeout: seconds per try, above 0.
        tries: at most, at least 1.

    Raises:
        MissingExtraError: httpx is not installed.
        ConfigError: a URL, key, timeout or number of tries that cannot be.
    """

    def __init__(
        self, url: str, key: str | None = None, *, timeout: float = 5.0, tries: int = 3
    ) -> None:
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise MissingExtraError("goalrank.client", "client") from error
        _check(url, key, timeout, tries)
        self._lost = httpx.TransportError
        self._unsent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
        self._tries = tries
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

    def events(self, events: Sequence[Events]) -> EventsAnswer:
        """Send events; when this returns, they are on disk and count for the next list.

        Events without a time get the moment of each try, and count twice where a try was lost:
        give them a `time` or an `event_id`.
        """
        again = all(event.get("event_id") or event.get("time") for event in events)
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
        content = None if body is None else _written(body)
        kind = {} if body is None else {"Content-Type": "application/json"}
        for done in range(1, self._tries + 1):
            try:
                answer = self._http.request(method, path, content=content, headers=kind)
            except self._lost as error:
                if done == self._tries or not (again or isinstance(error, self._unsent)):
                    raise
                time.sleep(min(_FIRST_PAUSE * 2 ** (done - 1), _LONGEST_PAUSE))
                continue
            pause = _pause(answer.headers)
            if answer.status_code not in _BUSY or done == self._tries or pause > _LONGEST_PAUSE:
                break
            time.sleep(pause)
        return _read(answer)


def _check(url: str, key: str | None, timeout: float, tries: int) -> None:
    """Refuse what no call could succeed with."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ConfigError(
            f"'{url}' is no address of a service; remedy: one such as http://127.0.0.1:8000 (option: url)"
        )
    if key is not None and not (key and key.isascii() and key.isprintable() and key == key.strip()):
        raise ConfigError(
            "the key is empty or has a character that no header can carry, such as a line's end; "
            "remedy: the key alone, in printable ASCII (option: key)"
        )
    if not (timeout > 0 and math.isfinite(timeout)):
        raise ConfigError(f"timeout is {timeout}, but must be seconds above 0 (option: timeout)")
    if tries < 1:
        raise ConfigError(f"tries is {tries}, but must be at least 1 (option: tries)")


def _path(given: Id) -> str:
    try:
        return quote(str(given), safe="")
    except UnicodeEncodeError as error:
        raise _unwritable(error) from None


def _written(body: Any) -> bytes:
    """The body as JSON; NaN and infinity are refused, as JSON has none."""
    try:
        text = json.dumps(body, default=_plain, allow_nan=False, ensure_ascii=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _unwritable(error) from None


def _unwritable(error: Exception) -> DataError:
    return DataError(
        f"the body cannot be written as JSON ({error}); remedy: ids as integers or text, finite "
        f"numbers, times as text or datetimes with a zone"
    )


def _plain(value: Any) -> Any:
    """What a library's number, array or time says."""
    for name in ("isoformat", "tolist"):
        if hasattr(value, name):
            return getattr(value, name)()
    raise TypeError(f"{value!r:.80} is of type {type(value).__name__}")


def _pause(headers: Mapping[str, str]) -> float:
    """Seconds to wait before the next try: 1 where the service names none that can be read."""
    try:
        asked = float(headers.get("Retry-After", 1))
    except ValueError:  # a date, as proxies send
        return 1.0
    return max(asked, 0.0) if math.isfinite(asked) else 1.0


def _read(answer: Any) -> Any:
    """What the service answered.

    Raises:
        Refused: an error, or nothing that the service would say.
    """
    try:
        found = answer.json()
        if answer.is_success:
            return found
        error = found["error"]
        refused = Refused(
            answer.status_code, error["code"], error["message"], error.get("details") or []
        )
    except (ValueError, KeyError, TypeError, AttributeError):  # a proxy's answer
        refused = Refused(answer.status_code, "unknown", answer.text[:200])
    refused.retry_after = _pause(answer.headers) if "Retry-After" in answer.headers else None
    raise refused
