"""What happens to a request before it is one: slow and large headers, and overload."""

from __future__ import annotations

import asyncio
from time import perf_counter

from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from goalrank.serving.http.access import ARRIVED, error_json
from goalrank.serving.http.admission import REFUSAL, Admission, is_guarded

TIMEOUT = 10.0  # seconds for the headers, and as many again for the body
MAX_HEADERS = 32_768  # bytes


class RequestTimeoutProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's HTTP protocol with limits on what comes before a request's body.

    Connections whose headers come late or are large are closed: uvicorn itself waits for them and
    keeps them without limit. Requests that the server cannot answer in time are refused here, where
    that costs least.
    """

    app: ASGIApp
    _header_bytes = 0  # received of headers that are not complete
    _header_total = 0  # of the names and values so far
    _headers_done = False  # whether headers were completed by the bytes that are handled now
    _shedding = False  # whether the body of a refused request is being read and dropped
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
        self._headers_done = False
        before = self.cycle
        super().data_received(data)
        if self._headers_done:  # `BodyLimit` times the body; the timer, that of a refused request
            self._header_bytes = 0
            if not self._shedding:
                self._stop_timer()
        elif not self._shedding and (before is None or before.response_complete):
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADERS:
                self._refuse_large()
            elif self._timer is None:
                self._start_timer()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, unless they are too large together.

        Args:
            name: of the header.
            value: of the header.
        """
        self._header_total += len(name) + len(value)
        if self._header_total <= MAX_HEADERS:
            super().on_header(name, value)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._header_total = 0

    def on_headers_complete(self) -> None:
        """Start the application, or refuse the request."""
        if self._header_total > MAX_HEADERS:
            self._refuse_large()
            return
        self._headers_done = True
        admission = self._admission
        usual = self.app
        if admission is not None and admission.full and is_guarded(self.url):
            if self._is_plain():
                self._shedding = True
                return
            self.app = admission.shed
        try:
            super().on_headers_complete()
        finally:
            self.app = usual

    def on_body(self, body: bytes) -> None:
        """Handle a part of a body.

        Args:
            body: the part.
        """
        if not self._shedding:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note when the last byte of a request had come; answer one that is refused."""
        admission = self._admission
        if self._shedding:
            self._shed()
            return
        self.scope[ARRIVED] = perf_counter() - (0.0 if admission is None else admission.lag)
        super().on_message_complete()

    def _is_plain(self) -> bool:
        """Whether a request can be refused without a task: nothing is under way before it."""
        idle = self.cycle is None or self.cycle.response_complete
        kept = self.parser.should_keep_alive() and not self.parser.should_upgrade()
        return bool(idle and kept and not self.expect_100_continue)

    def _shed(self) -> None:
        """Refuse a request by a few bytes; a task of the application would cost much more."""
        self._shedding = False
        if self._admission is not None:
            self._admission.count_shed()
        self.transport.write(REFUSAL)
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    @property
    def _admission(self) -> Admission | None:
        found: Admission | None = self.app_state.get("admission")
        return found

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
        self._answer(
            "408 Request Timeout", "timeout", f"the request did not arrive within {TIMEOUT:g} s"
        )

    def _refuse_large(self) -> None:
        self._stop_timer()
        self._answer(
            "431 Request Header Fields Too Large", "too_large",
            f"the headers have at most {MAX_HEADERS} bytes",
        )  # fmt: skip

    def _answer(self, status: str, code: str, message: str) -> None:
        if not self.transport.is_closing():
            body = error_json(code, message)
            head = (
                f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode("ascii") + body)
            self.transport.close()
