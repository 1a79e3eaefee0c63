"""Routes of health checks and metrics; none of them waits for a thread, a model or a database."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from fastapi import Depends, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST

from goalrank.serving.http.access import error_json
from goalrank.serving.ranking.service import Service


def add_health(app: FastAPI, service: Service, authorize: Callable[..., Awaitable[None]]) -> None:
    """Add `/health/live`, `/health/ready` and `/metrics`.

    Args:
        app: the application.
        service: the service.
        authorize: checks the key of who reads the metrics.
    """

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """Answer while the process runs."""
        return {"status": "live"}

    @app.get("/health/ready")
    async def ready() -> Response:
        """Answer 200 if lists can be served and stored, 503 otherwise; the body says what is wrong."""
        faults = service.faults()
        if any(fault.fatal for fault in faults):
            text = "; ".join(fault.text for fault in faults)
            return Response(error_json("not_ready", text), 503, media_type="application/json")
        body = {"status": "ready", "warnings": [fault.text for fault in faults]}
        return Response(json.dumps(body), media_type="application/json")

    @app.get(
        "/metrics", response_class=Response, dependencies=[Depends(authorize)],
        responses={200: {"content": {"text/plain": {}}}},
    )  # fmt: skip
    async def metrics() -> Response:
        """Write the metrics in the text format of Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
