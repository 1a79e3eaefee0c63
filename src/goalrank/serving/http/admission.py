"""Admission: how many requests are worked on at once, and which are refused before any work.

The number follows from the answers: it grows while they come well within the deadline, and shrinks
when they do not (additive increase, multiplicative decrease; Chiu & Jain, 1989, "Analysis of the
increase and decrease algorithms for congestion avoidance"). A request beyond it gets 503 at once,
which costs a server far less than an answer that comes too late.
"""

from __future__ import annotations

import asyncio
from time import perf_counter

from starlette.types import ASGIApp, Receive, Scope, Send

from goalrank.serving.http.access import ARRIVED, error_json
from goalrank.serving.observability.metrics import Metrics

GUARDED = (b"/v1/rank", b"/v1/recommend")  # beginnings of the paths that make lists
_LEAST, _MOST, _FIRST = 8.0, 1_024.0, 64.0
_SHARE = 0.5  # of the deadline within which answers should come
_SHRINK, _PAUSE_S = 0.9, 0.1  # factor, and seconds between two times that it is applied
_BEAT_S = 0.02
_BODY = error_json("overloaded", "the server has more work than it can do in time; send it again")
_HEADERS = (
    (b"content-type", b"application/json"), (b"retry-after", b"1"),
    (b"content-length", str(len(_BODY)).encode()),
)  # fmt: skip
# The whole refusal, as it goes over a connection that is kept open.
REFUSAL = b"\r\n".join(
    [b"HTTP/1.1 503 Service Unavailable", *(b": ".join(each) for each in _HEADERS), b"", _BODY]
)


class Admission:
    """Limit of the requests under way; used by one event loop alone.

    Args:
        deadline: seconds within which answers must come.
        metrics: where refused requests are counted.

    Attributes:
        limit: of requests under way.
        under_way: requests that are worked on.
        lag: seconds by which the event loop is late; what it reads may have waited so long.
    """

    def __init__(self, deadline: float, metrics: Metrics) -> None:
        self._target, self._metrics = _SHARE * deadline, metrics
        self.limit, self.under_way, self.lag = _FIRST, 0, 0.0
        self._shrunk = 0.0

    @property
    def full(self) -> bool:
        """Whether another request would come too late."""
        return self.under_way >= self.limit

    def enter(self) -> None:
        """Count a request that is worked on from now on."""
        self.under_way += 1

    def leave(self, seconds: float, now: float) -> None:
        """Count a request that was answered, and move the limit.

        Args:
            seconds: since it arrived.
            now: by `perf_counter`.
        """
        busy = self.under_way >= 0.8 * self.limit
        self.under_way -= 1
        if seconds > self._target:
            if now - self._shrunk > _PAUSE_S:
                self._shrunk, self.limit = now, max(_SHRINK * self.limit, _LEAST)
        elif busy:
            self.limit = min(self.limit + 8.0 / self.limit, _MOST)
        self._metrics.limit.set(self.limit)

    def count_shed(self) -> None:
        """Count a request that is refused."""
        self._metrics.shed.inc()

    async def shed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request; an ASGI application."""
        self.count_shed()
        await send({"type": "http.response.start", "status": 503, "headers": list(_HEADERS)})
        await send({"type": "http.response.body", "body": _BODY})

    async def beat(self) -> None:
        """Measure how late the event loop is, until cancelled."""
        while True:
            due = perf_counter() + _BEAT_S
            await asyncio.sleep(_BEAT_S)
            self.lag = max(perf_counter() - due, 0.0)


class Admitted:
    """ASGI middleware that counts requests under way and refuses those beyond the limit.

    It stands behind `BodyLimit`: a slow caller takes no place before the whole body is there.

    Args:
        app: the application.
        admission: the limit.
    """

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self.app, self.admission = app, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or refuse it."""
        if scope["type"] != "http" or not is_guarded(scope["path"].encode()):
            await self.app(scope, receive, send)
            return
        if self.admission.full:
            await self.admission.shed(scope, receive, send)
            return
        self.admission.enter()
        try:
            await self.app(scope, receive, send)
        finally:
            now = perf_counter()
            self.admission.leave(now - scope.get(ARRIVED, now), now)


def is_guarded(path: bytes) -> bool:
    """Whether a path makes lists.

    Args:
        path: of the request.
    """
    return path.startswith(GUARDED)
