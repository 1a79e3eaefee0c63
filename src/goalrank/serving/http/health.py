"""Routes of health checks and metrics; none of them waits for a thread, a model or a database."""

from __future__ import annotations

import json

from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST

from goalrank.serving.http.access import error_json
from goalrank.serving.ranking.service import Service


def add_health(app: FastAPI, routes: APIRouter, service: Service) -> None:
    """Add `/health/live`, `/health/ready` and `/metrics`.

    Args:
        app: the application, which gets the health checks.
        routes: those that check the key; the metrics are added to them.
        service: the service.
    """

    @app.head("/health/live", include_in_schema=False)  # what some load balancers ask
    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """Answer while the process runs."""
        return {"status": "live"}

    @app.head("/health/ready", include_in_schema=False)  # what some load balancers ask
    @app.get("/health/ready")
    async def ready() -> Response:
        """Answer 200 if lists can be served and stored, 503 otherwise; the body says what is wrong."""
        faults = service.faults()
        if any(fault.fatal for fault in faults):
            text = "; ".join(fault.text for fault in faults)
            return Response(error_json("not_ready", text), 503, media_type="application/json")
        body = {"status": "ready", "warnings": [fault.text for fault in faults]}
        return Response(json.dumps(body), media_type="application/json")

    @routes.get(
        "/metrics", response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )  # fmt: skip
    async def metrics() -> Response:
        """Write the metrics in the text format of Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
