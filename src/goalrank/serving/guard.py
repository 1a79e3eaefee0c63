"""Who may ask, how often, and how much at once."""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Sequence
from time import monotonic
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from goalrank.errors import ConfigError

CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Keys:
    """API keys by name; none at all leaves the door open.

    Args:
        text: `name:key,name:key`, as in GOALRANK_API_KEYS.
        rate: requests a second for each key (a burst of as many, at least one); None is no limit.

    Raises:
        ConfigError: an entry without a name or with a key shorter than 16 characters.
    """

    def __init__(self, text: str | None = None, rate: float | None = None) -> None:
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
        self._tokens: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

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
        if self.rate is None:
            return True
        now, most = monotonic(), max(self.rate, 1.0)
        with self._lock:
            left, last = self._tokens.get(name, (most, now))
            left = min(most, left + (now - last) * self.rate)
            self._tokens[name] = (left - 1 if left >= 1 else left, now)
        return left >= 1


class BodyLimit:
    """Refuses bodies above a size before they are gathered; pure ASGI.

    Args:
        most: bytes.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.most:
            await _refuse(send, self.most)
            return
        # A body without a stated length is counted as it comes, and kept to be read again.
        parts: list[Message] = []
        size, more = 0, True
        while more:
            message = await receive()
            parts.append(message)
            size += len(message.get("body", b""))
            more = message["type"] == "http.request" and message.get("more_body", False)
            if size > self.most:
                await _refuse(send, self.most)
                return
        kept = iter(parts)

        async def again() -> Message:
            return next(kept, None) or await receive()

        await self.app(scope, again, send)


async def _refuse(send: Send, most: int) -> None:
    body = error_json("too_large", f"a body has at most {most} bytes")
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_json(code: str, message: str, details: Sequence[dict[str, Any]] = ()) -> bytes:
    """The body of every refusal; ASCII, so that odd characters of a request cannot break it."""
    error = {"code": code, "message": message, "details": list(details)}
    return json.dumps({"error": error}, default=str).encode("ascii")
