"""Access to a server: API keys, rate limits, limits of the body, and counting of answers."""

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
from goalrank.serving.observability.logs import ACCESS, begin_request
from goalrank.serving.observability.metrics import Metrics

_LOG = logging.getLogger("goalrank.serving")
_POLL = 0.0005  # seconds between two tries for a lock that is held for microseconds
ARRIVED = "goalrank.arrived"  # key in an ASGI scope: when the last byte of a request had come
KEY_NAME = "goalrank.key"  # key in an ASGI scope: name of the API key
CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Keys:
    """API keys by name, with a rate limit per key; without any key every caller is accepted.

    Args:
        text: `name:key,name:key`, as in GOALRANK_API_KEYS.
        rate: requests per second and key, above 0; a burst of as many requests (at least one) is
            accepted. None sets no limit.
        shared: file through which processes with the same keys share their limits; None keeps the
            limits in this process.

    Raises:
        ConfigError: an entry without a name, a repeated name, a key shorter than 16 characters, or
            a rate that is not above 0.
    """

    def __init__(
        self, text: str | None = None, rate: float | None = None, shared: Path | None = None
    ) -> None:
        self._keys: dict[str, bytes] = {}
        for entry in filter(None, (part.strip() for part in (text or "").split(","))):
            name, colon, key = entry.partition(":")
            if not name or not colon or len(key) < 16 or name in self._keys:
                raise ConfigError(
                    "an entry of the API keys is not name:key with a unique name and a key of 16 "
                    "characters or more; remedy: name:key,name:key; option: GOALRANK_API_KEYS"
                )
            self._keys[name] = key.encode()
        if rate is not None and not rate > 0:
            raise ConfigError(f"rate is {rate}, but must be above 0; option: rate (GOALRANK_RATE)")
        self.rate = rate
        self._buckets = None if rate is None else _Buckets(rate, max(len(self._keys), 1), shared)

    def owner(self, given: str | None) -> str | None:
        """Find the name of a key; every key is compared, each in constant time.

        Args:
            given: the key that a caller sent; None for none.

        Returns:
            Its name; "" if no keys are required; None if the key is wrong or missing.
        """
        if not self._keys:
            return ""
        found = None
        for name, key in self._keys.items():
            if hmac.compare_digest(key, (given or "").encode()):
                found = name
        return found

    def allow(self, name: str) -> bool:
        """Whether a key may send another request now, which is then counted.

        Args:
            name: of `owner`.
        """
        return self._buckets is None or self._buckets.take(self._index(name))

    def charge(self, name: str, count: int) -> None:
        """Take tokens of a key, if need be in advance.

        Args:
            name: of `owner`.
            count: of tokens.
        """
        if self._buckets is not None and count > 0:
            self._buckets.take(self._index(name), count, in_advance=True)

    def _index(self, name: str) -> int:
        return list(self._keys).index(name) if name else 0


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

    def take(self, index: int, count: int = 1, *, in_advance: bool = False) -> bool:
        """Whether a bucket had tokens left, which are now taken.

        Args:
            index: of the bucket.
            count: of tokens.
            in_advance: take them even if there are not so many.
        """
        at = index * self._ENTRY.size
        with self._lock, self._claim:
            now = monotonic()
            taken, then = self._ENTRY.unpack_from(self._entries, at)
            taken = max(taken - (now - then) * self.rate, 0.0)
            allowed = in_advance or bool(taken + count <= self.most)
            self._ENTRY.pack_into(self._entries, at, taken + count * allowed, now)
        return allowed


class BodyLimit:
    """ASGI middleware that refuses large bodies before they are read whole, and slow ones.

    Args:
        app: the application.
        max_bytes: size of a body, at most.
        timeout: seconds in which a body must arrive.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        timeout: float = 10.0,
    ) -> None:
        self.app, self.max_bytes, self.timeout = app, max_bytes, timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body of a request, then let the application handle it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.max_bytes:
            await self._refuse_large(send)
            return
        try:
            async with asyncio.timeout(self.timeout):
                parts = await self._read_body(receive)
        except TimeoutError:
            message = f"the body did not arrive within {self.timeout:g} s"
            await refuse(send, 408, "timeout", message)
            return
        if parts is None:
            await self._refuse_large(send)
            return
        if parts[-1]["type"] == "http.disconnect":
            return
        scope.setdefault(ARRIVED, perf_counter())
        read = iter(parts)

        async def replay() -> Message:
            return next(read, None) or await receive()

        await self.app(scope, replay, send)

    async def _read_body(self, receive: Receive) -> list[Message] | None:
        """Read the whole body; None if it is too large, as a stated length can be missing or wrong."""
        parts: list[Message] = []
        size, more = 0, True
        while more:
            message = await receive()
            parts.append(message)
            size += len(message.get("body", b""))
            more = message["type"] == "http.request" and message.get("more_body", False)
            if size > self.max_bytes:
                return None
        return parts

    async def _refuse_large(self, send: Send) -> None:
        await refuse(send, 413, "too_large", f"a body has at most {self.max_bytes} bytes")


class AnswerMetrics:
    """ASGI middleware that counts and times answers, and answers unexpected errors with a code.

    Args:
        app: the application.
        metrics: where answers are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request and count its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = perf_counter(), 0
        name = begin_request(scope["headers"])

        async def counted_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                named = (b"x-request-id", name.encode("latin-1"))
                message["headers"] = [*message.get("headers", ()), named]
            await send(message)

        try:
            await self.app(scope, receive, counted_send)
        except Exception:  # the client must see no more than a code
            _LOG.exception("a fault of goalrank")
            if status:
                raise  # part of the answer was sent already: only the connection can be closed
            body = error_json("internal", "a fault of goalrank; the log says more")
            headers = [(b"content-type", b"application/json")]
            await counted_send({"type": "http.response.start", "status": 500, "headers": headers})
            await counted_send({"type": "http.response.body", "body": body})
        finally:
            # The path of the route: paths that callers invent would add metrics without limit.
            path = getattr(scope.get("route"), "path", "other")
            seconds = perf_counter() - scope.get(ARRIVED, began)
            self.metrics.latency.labels(path).observe(seconds)
            self.metrics.answers.labels(path, str(status)).inc()
            if ACCESS.isEnabledFor(logging.INFO):
                self._log(scope, status, seconds)

    @staticmethod
    def _log(scope: Scope, status: int, seconds: float) -> None:
        fields = {
            "method": scope["method"], "path": scope["path"], "status": status,
            "seconds": round(seconds, 6), "client": (scope.get("client") or ("",))[0],
            "key": scope.get(KEY_NAME, ""),
        }  # fmt: skip
        ACCESS.info("answered", extra={"fields": fields})


async def refuse(send: Send, status: int, code: str, message: str) -> None:
    """Answer a request with an error, and close its connection.

    Args:
        send: of ASGI.
        status: of the answer.
        code: for machines.
        message: for people.
    """
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": error_json(code, message)})


def error_json(code: str, message: str, details: Sequence[dict[str, Any]] = ()) -> bytes:
    """Make the JSON body of an error answer; ASCII, so that any characters of a request are safe.

    Args:
        code: for machines.
        message: for people.
        details: where in the request each rule is broken.
    """
    error = {"code": code, "message": message, "details": list(details)}
    return json.dumps({"error": error}, default=str).encode("ascii")
