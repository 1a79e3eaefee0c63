"""OpenTelemetry traces: spans of each request (rank → encode, decode, store)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from goalrank._version import __version__
from goalrank.bundles import TimedStep
from goalrank.errors import MissingExtraError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracing:
    """Records spans and sends them to an exporter.

    Args:
        exporter: of OpenTelemetry's SDK; None sends over OTLP/HTTP as the environment configures
            it (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS, …). OTEL_SERVICE_NAME
            names the service.

    Raises:
        MissingExtraError: the extra `otel` is not installed.
    """

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        try:
            from opentelemetry import context, propagate, trace
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            if exporter is None:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

                exporter = OTLPSpanExporter()
        except ModuleNotFoundError as error:
            raise MissingExtraError(f"traces (--trace, {_ENDPOINTS[0]})", "otel") from error
        self._context, self._propagate, self._trace = context, propagate, trace
        name = os.environ.get("OTEL_SERVICE_NAME", "goalrank")
        resource = Resource.create({"service.name": name, "service.version": __version__})
        # Not the global provider of the process, which may hold several servers.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("goalrank.serving", __version__)

    @contextmanager
    def span(self, name: str, **attributes: str | int | bool) -> Iterator[None]:
        """Record the block as a span; an error marks the span as failed.

        Args:
            name: of the span.
            **attributes: of the span, under `goalrank.NAME`.
        """
        named = {f"goalrank.{key}": value for key, value in attributes.items()}
        with self._tracer.start_as_current_span(name, attributes=named):
            yield

    def add_steps(self, steps: Sequence[TimedStep]) -> None:
        """Add steps that were timed elsewhere as children of the current span.

        Args:
            steps: of `goalrank.bundles.record_times`; equal ones are added once.
        """
        for name, start, end in dict.fromkeys(steps):
            self._tracer.start_span(name, start_time=start).end(end)

    @contextmanager
    def continued_trace(self, headers: Iterable[tuple[bytes, bytes]]) -> Iterator[None]:
        """Continue the caller's trace inside the block, if the headers have a `traceparent`.

        Args:
            headers: of the HTTP request.
        """
        plain = {key.decode("latin-1"): value.decode("latin-1") for key, value in headers}
        token = self._context.attach(self._propagate.extract(plain))
        try:
            yield
        finally:
            self._context.detach(token)

    def close(self) -> None:
        """Send the spans that have not been sent yet, then stop."""
        self._provider.shutdown()


class TraceContext:
    """ASGI middleware that continues the trace of the caller.

    Args:
        app: the application.
        tracing: where its spans go.
    """

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self.app, self.tracing = app, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request inside `Tracing.continued_trace`."""
        with self.tracing.continued_trace(scope.get("headers", ())):
            await self.app(scope, receive, send)


def configured_tracing(wanted: bool = False) -> Tracing | None:
    """Make tracing if it is wanted or the environment names an endpoint.

    Args:
        wanted: trace even if the environment names no endpoint.

    Returns:
        The tracing; None if neither holds or OTEL_SDK_DISABLED is true.

    Raises:
        MissingExtraError: the extra `otel` is not installed.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    named = any(os.environ.get(name) for name in _ENDPOINTS)
    return Tracing() if wanted or named else None
