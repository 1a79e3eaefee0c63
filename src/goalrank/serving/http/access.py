"""Who may ask, how often, and how much at once."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import mmap
import struct
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from filelock import FileLock
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from goalrank.errors import ConfigError
from goalrank.serving.observability.metrics import Metrics

_LOG = logging.getLogger("goalrank.serving")
_POLL = 0.0005  # seconds between two tries for a lock that is held for microseconds
CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Keys:
    """API keys by name; none at all leaves the door open.

    Args:
        text: `name:key,name:key`, as in GOALRANK_API_KEYS.
        rate: requests a second for each key (a burst of as many, at least one); None is no limit.
        shared: file by which processes with the same keys share their limits; None is this one's.

    Raises:
        ConfigError: an entry without a name or with a key shorter than 16 characters.
    """

    def __init__(
        self, text: str | None = None, rate: float | None = None, shared: Path | None = None
    ) -> None:
        self._keys: dict[str, bytes] = {}
        for entry in filter(None, (part.strip() for part in (text or "").split(","))):
            name, colon, key = entry.partition(":")
            if not name or not colon or len(key) < 16 or name in self._keys:
                raise ConfigError(
                    "an entry of the API keys is no name:key with a name of its own and a key of "
                    "16 characters or more; remedy: name:key,name:key; option: GOALRANK_API_KEYS"
                )
            self._keys[name] = key.encode()
        if rate is not None and not rate > 0:
            raise ConfigError(f"rate is {rate}, but must be above 0; option: rate (GOALRANK_RATE)")
        self.rate = rate
        self._buckets = None if rate is None else _Buckets(rate, max(len(self._keys), 1), shared)

    def name(self, given: str | None) -> str | None:
        """Whose key it is, None if nobody's. Every key is compared, each in constant time."""
        if not self._keys:
            return ""
        found = None
        for name, key in self._keys.items():
            if hmac.compare_digest(key, (given or "").encode()):
                found = name
        return found

    def allow(self, name: str) -> bool:
        """Take a token of a key's bucket; False where it is empty."""
        if self._buckets is None:
            return True
        return self._buckets.take(list(self._keys).index(name) if name else 0)


class _Buckets:
    """Token buckets, in a file where several processes draw from them.

    Args:
        rate: tokens per second; a bucket holds as many, at least one.
        count: number of buckets.
        path: the file, made where there is none; None keeps the buckets in this process.
    """

    _ENTRY = struct.Struct("dd")  # tokens taken that have not come back; when that was so

    def __init__(self, rate: float, count: int, path: Path | None) -> None:
        self.rate, self.most = rate, max(rate, 1.0)
        size = count * self._ENTRY.size
        self._lock = threading.Lock()  # the file's lock keeps processes apart, not threads
        self._claim: AbstractContextManager[object] = nullcontext()
        self._entries: bytearray | mmap.mmap = bytearray(size)
        if path is not None:
            lock = path.with_name(f"{path.name}.lock")
            self._claim = FileLock(lock, thread_local=False, poll_interval=_POLL)
            with path.open("a+b") as file:
                file.truncate(size)
                self._entries = mmap.mmap(file.fileno(), size)

    def take(self, index: int) -> bool:
        """Whether a bucket had a token left, which is now taken."""
        at = index * self._ENTRY.size
        with self._lock, self._claim:
            now = monotonic()
            taken, then = self._ENTRY.unpack_from(self._entries, at)
            taken = max(taken - (now - then) * self.rate, 0.0)
            allowed = bool(taken + 1 <= self.most)
            self._ENTRY.pack_into(self._entries, at, taken + allowed, now)
        return allowed


class BodyLimit:
    """Refuses bodies above a size before they are gathered, and slow ones; pure ASGI.

    Args:
        most: bytes.
        patience: seconds that a body may take to come.
    """

    def __init__(self, app: ASGIApp, most: int, patience: float = 10.0) -> None:
        self.app, self.most, self.patience = app, most, patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.most:
            await self._too_large(send)
            return
        try:
            async with asyncio.timeout(self.patience):
                parts = await self._gather(receive)
        except TimeoutError:
            said = f"the body did not come whole within {self.patience:g} s"
            await _refuse(send, 408, "timeout", said)
            return
        if parts is None:
            await self._too_large(send)
            return
        if parts[-1]["type"] == "http.disconnect":
            return
        kept = iter(parts)

        async def again() -> Message:
            return next(kept, None) or await receive()

        await self.app(scope, again, send)

    async def _gather(self, receive: Receive) -> list[Message] | None:
        """The whole body, None if it is too large: a stated length may be absent or wrong."""
        parts: list[Message] = []
        size, more = 0, True
        while more:
            message = await receive()
            parts.append(message)
            size += len(message.get("body", b""))
            more = message["type"] == "http.request" and message.get("more_body", False)
            if size > self.most:
                return None
        return parts

    async def _too_large(self, send: Send) -> None:
        await _refuse(send, 413, "too_large", f"a body has at most {self.most} bytes")


class Timing:
    """Counts and times answers, and turns faults of ours into a code; pure ASGI."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = perf_counter(), 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, note)
        except Exception:  # nothing may reach the client but a code
            _LOG.exception("a fault of goalrank")
            if status:
                raise  # half an answer is out already: only the connection can be cut
            body = error_json("internal", "a fault of goalrank; the log says more")
            headers = [(b"content-type", b"application/json")]
            await note({"type": "http.response.start", "status": 500, "headers": headers})
            await note({"type": "http.response.body", "body": body})
        finally:
            # The route's own path: one that callers invent would let the metrics grow for ever.
            path = getattr(scope.get("route"), "path", "other")
            self.metrics.latency.labels(path).observe(perf_counter() - began)
            self.metrics.answers.labels(path, str(status)).inc()


async def _refuse(send: Send, status: int, code: str, said: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": error_json(code, said)})


def error_json(code: str, message: str, details: Sequence[dict[str, Any]] = ()) -> bytes:
    """The body of every refusal; ASCII, so that odd characters of a request cannot break it."""
    error = {"code": code, "message": message, "details": list(details)}
    return json.dumps({"error": error}, default=str).encode("ascii")
