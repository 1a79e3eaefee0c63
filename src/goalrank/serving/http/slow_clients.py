"""Timeout of requests whose callers send them too slowly."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from goalrank.serving.http.access import error_json

TIMEOUT = 10.0  # seconds for the headers, and as many again for the body


class RequestTimeoutProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's HTTP protocol with a timeout: connections whose headers come late are closed.

    uvicorn itself waits for them without limit, so a few idle callers could hold all connections.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start the timer of a new connection.

        Args:
            transport: of the connection.
        """
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Handle received bytes; stop the timer when the headers are complete.

        Args:
            data: the bytes.
        """
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:  # the headers are complete; `BodyLimit` times the body
            self._stop_timer()
        elif self._timer is None and (before is None or before.response_complete):
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer of a closed connection.

        Args:
            exc: why it was lost; None if it was closed.
        """
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(TIMEOUT, self._refuse)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            body = error_json("timeout", f"the request did not arrive within {TIMEOUT:g} s")
            head = (
                "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode("ascii") + body)
            self.transport.close()
