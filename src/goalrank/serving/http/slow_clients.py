"""Callers that send slowly: each request has a time by which it must have come whole."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from goalrank.serving.http.access import error_json

PATIENCE = 10.0  # seconds for the headers, and again for the body


class PatientProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's own protocol, which closes connections whose headers do not come whole in time.

    By itself uvicorn waits for them for ever, so that a few idle callers could hold all its
    connections.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A caller is here, and has not asked yet."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """A part of a request."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:  # the headers are whole; `BodyLimit` waits for the body
            self._stop()
        elif self._timer is None and (before is None or before.response_complete):
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._timer = self.loop.call_later(PATIENCE, self._give_up)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            body = error_json("timeout", f"the request did not come whole within {PATIENCE:g} s")
            head = (
                "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode("ascii") + body)
            self.transport.close()
