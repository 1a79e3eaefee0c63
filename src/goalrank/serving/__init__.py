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
    from goalrank.serving.state.comparison.log_comparison import Comparison, compare_log
    from goalrank.serving.state.latest_columns import told_columns
    from goalrank.serving.state.refreshing import refreshed_retrieval
    from goalrank.serving.state.replay import replay_log
    from goalrank.serving.store.export import export_store, stored_requests
    from goalrank.serving.store.records import Event, Exposure
    from goalrank.serving.store.store import Store
    from goalrank.serving.store.upkeep import (
        StoreState,
        backup_store,
        check_store,
        compact_store,
        older_than,
    )

__all__ = [
    "DEFAULT_STORE",
    "Comparison",
    "Event",
    "Examples",
    "Exposure",
    "ServeSettings",
    "Service",
    "Store",
    "StoreState",
    "backup_store",
    "build_app",
    "check_store",
    "compact_store",
    "compare_log",
    "create_app",
    "export_store",
    "older_than",
    "refreshed_retrieval",
    "replay_log",
    "run_server",
    "stored_requests",
    "told_columns",
]

__getattr__ = lazy_door(
    __name__,
    {
        "Comparison": "goalrank.serving.state.comparison.log_comparison",
        "DEFAULT_STORE": "goalrank.serving.http.settings",
        "Event": "goalrank.serving.store.records",
        "Examples": "goalrank.serving.page.examples",
        "Exposure": "goalrank.serving.store.records",
        "ServeSettings": "goalrank.serving.http.settings",
        "Service": "goalrank.serving.ranking.service",
        "Store": "goalrank.serving.store.store",
        "StoreState": "goalrank.serving.store.upkeep",
        "backup_store": "goalrank.serving.store.upkeep",
        "build_app": "goalrank.serving.http.server",
        "check_store": "goalrank.serving.store.upkeep",
        "compact_store": "goalrank.serving.store.upkeep",
        "compare_log": "goalrank.serving.state.comparison.log_comparison",
        "create_app": "goalrank.serving.http.app",
        "export_store": "goalrank.serving.store.export",
        "older_than": "goalrank.serving.store.upkeep",
        "replay_log": "goalrank.serving.state.replay",
        "run_server": "goalrank.serving.http.server",
        "stored_requests": "goalrank.serving.store.export",
        "refreshed_retrieval": "goalrank.serving.state.refreshing",
        "told_columns": "goalrank.serving.state.latest_columns",
    },
    extra=("the service", "serve"),
)
