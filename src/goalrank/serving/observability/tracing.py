"""OpenTelemetry traces: each request's way as spans, rank → encode, decode, store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from goalrank._version import __version__
from goalrank.bundles import TimedStep
from goalrank.errors import MissingExtraError

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracing:
    """Spans to an exporter.

    Args:
        exporter: of OpenTelemetry's SDK; None sends over OTLP/HTTP to where the environment says
            (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS, …). OTEL_SERVICE_NAME names
            the service.

    Raises:
        MissingExtraError: the extra `otel` is not installed.
    """

    def __init__(self, exporter: Any = None) -> None:
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
        # Not the process's global provider: several servers fit into one process.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("goalrank.serving", __version__)

    @contextmanager
    def span(self, name: str, **attributes: str | int | bool) -> Iterator[None]:
        """A span while it lasts; an error marks it as failed."""
        named = {f"goalrank.{key}": value for key, value in attributes.items()}
        with self._tracer.start_as_current_span(name, attributes=named):
            yield

    def add(self, marks: Sequence[TimedStep]) -> None:
        """Stages timed elsewhere, as children of the span at work; each once."""
        for name, start, end in dict.fromkeys(marks):
            self._tracer.start_span(name, start_time=start).end(end)

    @contextmanager
    def carried(self, headers: Iterable[tuple[bytes, bytes]]) -> Iterator[None]:
        """Spans carry on the caller's trace (`traceparent`), if the headers name one."""
        plain = {key.decode("latin-1"): value.decode("latin-1") for key, value in headers}
        token = self._context.attach(self._propagate.extract(plain))
        try:
            yield
        finally:
            self._context.detach(token)

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


class TraceContext:
    """Pure ASGI: every request inside `Tracing.carried`."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self.app, self.tracing = app, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.tracing.carried(scope.get("headers", ())):
            await self.app(scope, receive, send)


def configured_tracing(wanted: bool = False) -> Tracing | None:
    """Tracing if it is wanted or the environment names an endpoint; None otherwise.

    Raises:
        MissingExtraError: the extra `otel` is not installed.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    named = any(os.environ.get(name) for name in _ENDPOINTS)
    return Tracing() if wanted or named else None
