"""Service around bundles: HTTP, ranking, store, page and observability."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goalrank._lazy import lazy_door

if TYPE_CHECKING:
    from goalrank.serving.http.app import create_app
    from goalrank.serving.http.server import build_app, run_server
    from goalrank.serving.http.settings import DEFAULT_STORE, ServeSettings
    from goalrank.serving.page.examples import Examples
    from goalrank.serving.ranking.service import Service
    from goalrank.serving.store.export import export_store, stored_requests
    from goalrank.serving.store.records import Event, Exposure
    from goalrank.serving.store.store import Store

__all__ = [
    "DEFAULT_STORE",
    "Event",
    "Examples",
    "Exposure",
    "ServeSettings",
    "Service",
    "Store",
    "build_app",
    "create_app",
    "export_store",
    "run_server",
    "stored_requests",
]

__getattr__ = lazy_door(
    __name__,
    {
        "DEFAULT_STORE": "goalrank.serving.http.settings",
        "Event": "goalrank.serving.store.records",
        "Examples": "goalrank.serving.page.examples",
        "Exposure": "goalrank.serving.store.records",
        "ServeSettings": "goalrank.serving.http.settings",
        "Service": "goalrank.serving.ranking.service",
        "Store": "goalrank.serving.store.store",
        "build_app": "goalrank.serving.http.server",
        "create_app": "goalrank.serving.http.app",
        "export_store": "goalrank.serving.store.export",
        "run_server": "goalrank.serving.http.server",
        "stored_requests": "goalrank.serving.store.export",
    },
    extra=("the service", "serve"),
)
